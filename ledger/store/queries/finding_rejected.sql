-- Rejected records and events by platform and reason, the same bytes counted once, and not those whose event was booked since.
with refused as (
    select r.platform_id, r.reason, r.raw,
        -- for these reasons the bytes are the JSON of one event, which a registration, a clock or a rule lets pass later
        case when r.reason in ('unknown_platform', 'unknown_city', 'before_scheme', 'in_future', 'no_rate')
            then cast(convert_from(r.raw, 'UTF8') as jsonb) end as event
    from rejected_record r
    join batch b using (batch_id)
    where cast(:since as timestamptz) is null or b.recorded_at >= cast(:since as timestamptz)
)
select coalesce(platform_id, '') as platform_id, reason, count(distinct raw) as events
from refused
where event is null or not exists (
    select from platform p
    where event ->> 'source' in (select '/platforms/' || name from unnest(array[p.platform_id] || p.aliases) name)
        and case event ->> 'type'
            when 'order.accepted' then exists (
                select from charge c where c.platform_no = p.platform_no and c.order_id = event ->> 'subject')
            else exists (
                select from event_key k where k.platform_no = p.platform_no and k.order_id = event ->> 'subject'
                    and k.slot = case event ->> 'type' when 'order.reassigned' then event ->> 'id' else '' end)
        end
)
group by platform_id, reason
order by count(distinct raw) desc, reason
