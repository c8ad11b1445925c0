-- Every charge, for a replay; the tag packs platform, line and ordinal, since each column costs its time by the million.
select entry_id, accepted_at, city, amount, order_id, worker_id,
    (cast(platform_no as bigint) * 256 + cast(line as integer)) * 65536 + 32768 + ordinal as tag
from charge
