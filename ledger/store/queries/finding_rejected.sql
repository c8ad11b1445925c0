-- Rejected records and events, by platform and reason.
select coalesce(platform_id, '') as platform_id, reason, count(*) as events
from rejected_record
group by platform_id, reason
order by count(*) desc, reason
