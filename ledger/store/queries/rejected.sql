-- Rejected records, the latest first.
select b.topic, b.partition, r.record_offset, r.item, r.platform_id, r.reason, r.place, r.detail, b.recorded_at,
    substring(r.raw from 1 for 2000) as raw, length(r.raw) as raw_bytes
from rejected_record r
join batch b using (batch_id)
where (cast(:reason as text) is null or r.reason = cast(:reason as text))
order by r.batch_id desc, r.record_offset desc, r.item desc
limit :limit
