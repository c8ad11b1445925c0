-- How many rejected records and items there are for each reason, the most first.
select r.reason, count(*) as events
from rejected_record r
join batch b using (batch_id)
where (cast(:reason as text) is null or r.reason = cast(:reason as text))
    and (cast(:platform_id as text) is null or r.platform_id = cast(:platform_id as text))
    and (cast(:since as timestamptz) is null or b.recorded_at >= cast(:since as timestamptz))
    and (cast(:until as timestamptz) is null or b.recorded_at < cast(:until as timestamptz))
    and (cast(:topic as text) is null or b.topic = cast(:topic as text))
    and (cast(:partition as integer) is null or b.partition = cast(:partition as integer))
group by r.reason
order by count(*) desc, r.reason
