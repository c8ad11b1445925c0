-- What became the worker's up to an instant and since a time, as worker_orders tells it, and the first order after it.
select begun, begun_at, (
    select order_id
    from order_event
    where worker_id = :worker_id and platform_no = :platform_no and occurred_at > :at and occurred_at <= :until
    order by occurred_at
    limit 1
) as order_id
from (
    select cast(array_agg(order_id) as text) as begun, cast(array_agg(occurred_at) as text) as begun_at
    from order_event
    where worker_id = :worker_id and platform_no = :platform_no and occurred_at between :since and :at
) o
