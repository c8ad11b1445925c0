-- The line of business stands beside each event that gives a worker an order, and in the index by worker: how far back an
-- accident's windows can have begun differs by line, and so only those orders are read that can still have been open.

alter table order_event add column line "char";
alter table order_event disable trigger append_only;
update order_event o set line = c.line from charge c
where o.kind = 'A' and c.platform_no = o.platform_no and c.order_id = o.order_id;
update order_event set line = '*' where kind = 'R';
alter table order_event enable trigger append_only;
alter table order_event add check ((line is not null) = (worker_id is not null));  -- '*': a reassignment, which does not say

drop index order_event_worker;
create index order_event_worker on order_event (worker_id, line) where worker_id is not null;
