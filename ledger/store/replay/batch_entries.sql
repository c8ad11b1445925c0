-- Every entry with its postings, those of a batch together, in order.
select e.*, p.posting_no, p.account_id, p.occurred_on, p.order_count as posting_orders, p.amount
from entry e
left join posting p using (entry_id)
order by e.batch_id nulls last, e.entry_id, p.posting_no
