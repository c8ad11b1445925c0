-- Brings charges to the desk, each with the batch of its entry and what the orders of that entry share.
insert into charge
select case when k.batch_id between 0 and 70368744177663 then k.batch_id * 65536 + (tag & 65535) end, tag, order_id,
    epoch_us(accepted_at), worker_id, city, amount, c.entry_id, k.key_no
from incoming c
left join entry_key k on k.entry_id = c.entry_id
