-- Which of these later events are known already, and how.
select k.platform_no, k.order_id, k.slot, k.occurred_at, k.kind, k.worker_id
from unnest(cast(:platform_nos as smallint[]), cast(:order_ids as text[]), cast(:slots as text[]))
    as asked (platform_no, order_id, slot)
join event_key k using (platform_no, order_id, slot)
