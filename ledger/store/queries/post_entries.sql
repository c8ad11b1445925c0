-- Writes the entries of one batch or settlement.
insert into entry (entry_id, batch_id, kind, platform_no, province, line, month, origin_month, premium_base, float_factor,
    order_count, rulebook_hash)
select e.entry_id, cast(:batch_id as bigint), :kind, e.platform_no, e.province, e.line, e.month, e.origin_month,
    e.premium_base, e.float_factor, e.order_count, :rulebook_hash
from unnest(cast(:entry_ids as bigint[]), cast(:platform_nos as smallint[]), cast(:provinces as text[]),
    cast(:lines as text[]), cast(:months as date[]), cast(:origin_months as date[]), cast(:premium_bases as integer[]),
    cast(:float_factors as numeric[]), cast(:order_counts as integer[]))
    as e (entry_id, platform_no, province, line, month, origin_month, premium_base, float_factor, order_count)
