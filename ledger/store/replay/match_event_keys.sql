-- Later events and event_key rows of some batches that are not equal in every value.
create or replace temp table odd_event_key as
select e, b
from (select * from event where kind <> 65) e
full join (select * from event_key where place between $first and $last) b on e.place = b.place
where (
    e.tag = b.tag and e.order_id = b.order_id and e.slot = b.slot and e.us = b.us
    and e.worker_id is not distinct from b.worker_id
) is not true
