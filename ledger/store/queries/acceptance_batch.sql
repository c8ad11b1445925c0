-- The batch in which an order's acceptance was recorded, where no entry leads to it.
select b.batch_id, b.recorded_at
from order_event o
join batch b on b.batch_id = o.batch_id
where o.occurred_at = :occurred_at and o.worker_id = :worker_id and o.platform_no = :platform_no
    and o.order_id = :order_id and o.kind = 'A'
