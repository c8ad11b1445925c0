-- Every entry with its postings, those of a batch together, in order.
select e.entry_id, e.batch_id, e.kind, e.platform_no, e.province, e.line, e.month, e.origin_month, e.premium_base,
    e.order_count, e.rulebook_hash, e.recorded_in, e.recorded_us, e.float_factor, p.posting_no, p.account_id,
    p.occurred_on, p.order_count, p.amount
from entry e
left join posting p using (entry_id)
order by e.batch_id nulls last, e.entry_id, p.posting_no
