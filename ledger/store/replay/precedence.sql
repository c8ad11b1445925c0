-- Repeated events that were recorded before the version that stands: in their own partition by offset, in another one
-- when the standing version's batch began after the event's batch was followed by the next one.
select 'claim' as books, u.place, a.standing, u.kind, u.platform_no, u.order_id, u.slot
from answer a
join unpaired u on u.place = a.place
join batch b on b.batch_id = a.place >> 16
join batch s on s.batch_id = a.standing >> 16
where a.answer <> 'missing'
    and case when b.chain = s.chain
        then s.first_offset > b.first_offset or (s.first_offset = b.first_offset and a.standing > a.place)
        else s.recorded_us > b.followed_us
    end
order by a.place
