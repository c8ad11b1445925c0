-- Every order event, for a replay; the tag packs platform, kind and ordinal.
select occurred_at, batch_id, order_id, worker_id, cast(line as integer) as line,
    (cast(platform_no as bigint) * 256 + cast(kind as integer)) * 65536 + 32768 + ordinal as tag
from order_event
