-- A number drawn from all values of an order event with a seed that nobody knew when it was written (a part of
-- replay_order_event_sums; each value is drawn from with what was drawn from those before it, so that none can change
-- places with another unnoticed).
hashtextextended(order_id, hashint8extended(
    ((cast(platform_no as bigint) * 65536 + ordinal) * 512 + cast(kind as integer)) * 512
        + coalesce(cast(line as integer), 256),
    timestamptz_hash_extended(occurred_at, coalesce(hashtextextended(worker_id, :seed), :seed))))
