-- Events and order_event rows of some batches that are not equal in every value.
create or replace temp table odd_order_event as
select e, b
from event e
full join (select * from order_event where place between $first and $last) b on e.place = b.place
where (
    e.tag = b.tag and e.order_id = b.order_id and e.us = b.us and e.worker_id is not distinct from b.worker_id
    and said_line(e.kind, e.line) is not distinct from b.line
) is not true
