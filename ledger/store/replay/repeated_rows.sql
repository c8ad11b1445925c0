-- Rows of order_event that stand there more than once, the same in every value.
select place, count(*)
from order_event
where place in (select place from order_event where place between $first and $last group by place having count(*) > 1)
group by place, tag, order_id, us, worker_id, line
having count(*) > 1
