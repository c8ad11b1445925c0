-- Whether some charges, event keys or their events did not match.
select exists (from odd_charge) or exists (from odd_event_key)
