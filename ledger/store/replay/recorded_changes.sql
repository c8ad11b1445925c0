-- Every change of a charge, with the batch of its entry and what the orders of that entry share.
select c.*, k.batch_id, k.key_no
from change c
left join entry_key k using (entry_id)
order by platform_no, order_id, kind
