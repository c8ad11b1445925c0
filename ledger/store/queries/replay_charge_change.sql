-- Every change of a charge, for a replay.
select platform_no, order_id, kind, entry_id, amount from charge_change
