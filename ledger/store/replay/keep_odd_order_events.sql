-- Keeps order_event rows and events of some batches that did not match, for judgement when all batches are read.
insert into event_rest
select 'order_event', chr(e.kind), e.place, e.platform_no, e.kind, e.order_id, e.slot, e.us, e.worker_id,
    said_line(e.kind, e.line), null, null
from odd_order_event where e.place is not null;
insert into row_rest by name
select 'order_event' as books, 'order_event' as "table", chr(((b.tag >> 16) & 255)::integer) as sort, b.place,
    (b.tag & 65535) - 32768 as ordinal, b.tag >> 24 as platform_no, (b.tag >> 16) & 255 as kind, b.order_id, b.us, b.worker_id,
    b.line
from odd_order_event where b.place >> 16 in (from replayed);
