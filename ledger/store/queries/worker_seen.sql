-- When the worker last got an order of the platform up to an instant, and when next after it.
select max(occurred_at) filter (where occurred_at <= :at) as before, min(occurred_at) filter (where occurred_at > :at) as after
from order_event
where worker_id = :worker_id and platform_no = :platform_no
