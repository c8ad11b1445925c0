-- Every entry, for a replay.
select entry_id, batch_id, kind, platform_no, province, line, month, origin_month, premium_base,
    cast(float_factor as text) as float_factor, order_count, rulebook_hash, recorded_at,
    cast(cast(recorded_in as text) as bigint) as recorded_in
from entry
