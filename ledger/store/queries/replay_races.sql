-- Batches that refused a platform as unknown which was registered in the moments between their reading and their booking.
select distinct r.batch_id, p.platform_no
from rejected_record r
join batch b using (batch_id)
join platform p on p.registered_at between b.recorded_at - interval '10 minutes' and b.recorded_at
where r.reason = 'unknown_platform'
    and split_part(r.detail, ' ', 1) in (select '/platforms/' || name from unnest(array[p.platform_id] || p.aliases) name)
