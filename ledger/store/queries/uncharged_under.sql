-- Under which rulebook each of these acceptances was booked, to which no entry leads; the times say which days to look at.
select platform_no, order_id, b.rulebook_hash
from unnest(cast(:platform_nos as smallint[]), cast(:order_ids as text[]), cast(:worker_ids as text[]),
    cast(:accepted_ats as timestamptz[])) as asked (platform_no, order_id, worker_id, occurred_at)
join order_event o using (platform_no, order_id, worker_id, occurred_at)
join batch b using (batch_id)
where o.kind = 'A' and o.occurred_at = any(cast(:accepted_ats as timestamptz[]))
