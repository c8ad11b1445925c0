-- Repeated events that have an order_event row all the same; then such events are no longer looked for there.
insert into extra_order_event
select place from answer
where answer <> 'missing' and place not in (select place from event_rest where books = 'order_event');
delete from event_rest
where books = 'order_event' and place in (select place from answer where answer <> 'missing');
