-- Writes down which batch an entry belongs to, and the number of what its orders share.
insert into entry_key
select entry_id, batch_id, key_no
from entry
join identity using (platform_no, province, line, origin_month, premium_base, float_factor)
