-- Rows of charge, event_key and order_event that no batch claims, and that were not looked at for that reason.
insert into row_rest by name
select 'claim' as books, 'charge' as "table", 'A' as sort, place, (tag & 65535) - 32768 as ordinal, tag >> 24 as platform_no, 65 as kind, order_id,
    us, worker_id, (tag >> 16) & 255 as line, city, amount, key_no, entry_id
from charge where place is null or place >> 16 not in (from known_batch);
insert into row_rest by name
select 'claim' as books, 'event_key' as "table", '/' || slot as sort, place, (tag & 65535) - 32768 as ordinal, tag >> 24 as platform_no,
    (tag >> 16) & 255 as kind, order_id, slot, us, worker_id
from event_key where place is null or place >> 16 not in (from known_batch);
insert into row_rest by name
select 'order_event' as books, 'order_event' as "table", chr(((tag >> 16) & 255)::integer) as sort, place,
    (tag & 65535) - 32768 as ordinal, tag >> 24 as platform_no, (tag >> 16) & 255 as kind, order_id, us, worker_id,
    line
from order_event where place is null or place >> 16 not in (from known_batch);
