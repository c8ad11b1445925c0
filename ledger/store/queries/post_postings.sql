-- Writes the postings of entries just written.
insert into posting (entry_id, posting_no, account_id, occurred_on, order_count, amount)
select * from unnest(cast(:entry_ids as bigint[]), cast(:posting_nos as smallint[]), cast(:account_ids as integer[]),
    cast(:days as date[]), cast(:order_counts as integer[]), cast(:amounts as bigint[]))
