-- Batch by batch, how many rows order_event holds, or else charge and event_key, and the sum of the marks of these rows
-- (see order_event_mark; a charge without an entry is of no known batch; drawn where the rows are and not once around
-- them, a table hands on two numbers instead of eight values, which saves a sixth of the time).
select batch_id, count(*) as events, sum(mark) as marks
from (
    select batch_id, {mark} as mark
    from order_event
    where :stated
    union all
    select batch_id, {mark}
    from (
        select e.batch_id, c.order_id, c.accepted_at as occurred_at, c.worker_id, c.platform_no, c.ordinal,
            cast('A' as "char") as kind, c.line
        from charge c
        left join entry e on e.entry_id = c.entry_id
    ) accepted
    where not :stated
    union all
    select batch_id, {mark}
    from (
        select batch_id, order_id, occurred_at, worker_id, platform_no, ordinal, kind,
            case kind when 'R' then cast('*' as "char") end as line
        from event_key
    ) later
    where not :stated
) marked
group by batch_id
