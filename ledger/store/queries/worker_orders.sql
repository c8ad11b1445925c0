-- What became the worker's in a span of time, as two lists, orders and times, which order_facts takes as they are.
select cast(array_agg(order_id) as text) as begun, cast(array_agg(occurred_at) as text) as begun_at
from order_event
where worker_id = :worker_id and platform_no = :platform_no and occurred_at between :since and :at
