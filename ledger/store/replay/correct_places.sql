-- Puts charges and event keys that stand with wrong values to the places and facts of their events, so that what follows
-- from them is not found wrong once more.
update charge
set place = e.place, us = e.us, city = e.city
from pairing p, row_rest r, event_rest e
where p.books = 'claim' and r.row_no = p.row_no and r."table" = 'charge' and e.books = p.books and e.place = p.place
    and charge.order_id = r.order_id and charge.tag >> 24 = r.platform_no;
update event_key
set place = e.place
from pairing p, row_rest r, event_rest e
where p.books = 'claim' and r.row_no = p.row_no and r."table" = 'event_key' and e.books = p.books and e.place = p.place
    and event_key.order_id = r.order_id and event_key.tag >> 24 = r.platform_no and '/' || event_key.slot = r.sort
