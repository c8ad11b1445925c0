-- Keeps charges, event keys and their events of some batches that did not match, for judgement when all batches are read.
insert into event_rest
select 'claim', 'A', e.place, e.platform_no, e.kind, e.order_id, null, e.us, e.worker_id, e.line, e.city, e.tariff_no
from odd_charge where e.place is not null;
insert into event_rest
select 'claim', '/' || e.slot, e.place, e.platform_no, e.kind, e.order_id, e.slot, e.us, e.worker_id, null, null, null
from odd_event_key where e.place is not null;
insert into row_rest by name
select 'claim' as books, 'charge' as "table", 'A' as sort, b.place, (b.tag & 65535) - 32768 as ordinal, b.tag >> 24 as platform_no, 65 as kind, b.order_id,
    b.us, b.worker_id, (b.tag >> 16) & 255 as line, b.city, b.amount, b.key_no, b.entry_id
from odd_charge where b.place >> 16 in (from replayed);
insert into row_rest by name
select 'claim' as books, 'event_key' as "table", '/' || b.slot as sort, b.place, (b.tag & 65535) - 32768 as ordinal, b.tag >> 24 as platform_no,
    (b.tag >> 16) & 255 as kind, b.order_id, b.slot, b.us, b.worker_id
from odd_event_key where b.place >> 16 in (from replayed);
