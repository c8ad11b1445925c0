-- Which of these orders were accepted already, what that charged, and under which rulebook, where an entry tells.
select c.platform_no, c.order_id, c.accepted_at, c.worker_id, c.city, c.line, c.amount, c.entry_id, e.rulebook_hash
from unnest(cast(:platform_nos as smallint[]), cast(:order_ids as text[])) as asked (platform_no, order_id)
join charge c using (platform_no, order_id)
left join entry e using (entry_id)
