-- Every posting, for a replay.
select entry_id, posting_no, account_id, occurred_on, order_count, amount from posting
