-- Charges without an entry are at the place of their order's acceptance.
update charge
set place = (o.place >> 16 << 16) | (charge.tag & 65535)
from order_event o
where charge.entry_id is null and o.order_id = charge.order_id and o.tag >> 24 = charge.tag >> 24
    and (o.tag >> 16) & 255 = 65
