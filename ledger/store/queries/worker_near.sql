-- What became the worker's up to an instant and since a time, as worker_orders tells it, and the first order after it.
select cast(array_agg(order_id) filter (where occurred_at <= :at) as text) as begun,
    cast(array_agg(occurred_at) filter (where occurred_at <= :at) as text) as begun_at,
    (array_agg(order_id order by occurred_at) filter (where occurred_at > :at))[1] as order_id
from order_event
where worker_id = :worker_id and platform_no = :platform_no and occurred_at between :since and :until
