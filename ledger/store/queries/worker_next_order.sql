-- The first order that became the worker's after an instant.
select order_id
from order_event
where worker_id = :worker_id and platform_no = :platform_no and occurred_at > :at and occurred_at <= :until
order by occurred_at
limit 1
