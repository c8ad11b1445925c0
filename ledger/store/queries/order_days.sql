-- Under which names the order events of these days are kept, where there are any (by the catalog, since to_regclass can
-- deny for a whole transaction a table that was made meanwhile).
select day, cast(c.relname as text) as name
from unnest(cast(:days as date[])) as day
join pg_class c on c.relname = cast('order_event_' || to_char(day, 'YYYYMMDD') as name)
where c.relnamespace = (select relnamespace from pg_class where oid = cast('order_event' as regclass))
