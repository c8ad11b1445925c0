-- Rejected records with the file they came from, the latest first.
select r.batch_id, b.topic, b.partition, r.record_offset, r.item, r.platform_id, r.reason, r.place, r.detail, b.recorded_at,
    substring(r.raw from 1 for 2000) as raw, length(r.raw) as raw_bytes,
    s.description as file, s.header is not null as header, cast(s.mapping as json) ->> 'encoding' as encoding
from rejected_record r
join batch b using (batch_id)
left join source s using (topic)
where (cast(:reason as text) is null or r.reason = cast(:reason as text))
    and (cast(:platform_id as text) is null or r.platform_id = cast(:platform_id as text))
    and (cast(:since as timestamptz) is null or b.recorded_at >= cast(:since as timestamptz))
    and (cast(:until as timestamptz) is null or b.recorded_at < cast(:until as timestamptz))
    and (cast(:topic as text) is null or b.topic = cast(:topic as text))
    and (cast(:partition as integer) is null or b.partition = cast(:partition as integer))
order by r.batch_id desc, r.record_offset desc, r.item desc
limit :limit
