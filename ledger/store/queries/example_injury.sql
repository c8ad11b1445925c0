-- A moment in the middle of a completed order of one topic, to show what verifying an injury looks like.
select p.platform_id, c.worker_id, c.accepted_at + (k.occurred_at - c.accepted_at) / 2 as at
from batch b
join event_key k using (batch_id)
join charge c using (platform_no, order_id)
join platform p using (platform_no)
where b.topic = :topic and k.kind = 'C' and k.occurred_at > c.accepted_at
limit 1
