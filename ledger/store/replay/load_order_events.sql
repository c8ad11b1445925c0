-- Brings order events to the desk; a batch number that no batch can have gives no place.
insert into order_event
select case when batch_id between 0 and 70368744177663 then batch_id * 65536 + (tag & 65535) end, tag, order_id,
    epoch_us(occurred_at), worker_id, line
from incoming
