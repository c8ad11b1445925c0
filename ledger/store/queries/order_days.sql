-- Under which names the order events of these days are kept, where there are any.
select day, cast(to_regclass('order_event_' || to_char(day, 'YYYYMMDD')) as text) as name
from unnest(cast(:days as date[])) as day
where to_regclass('order_event_' || to_char(day, 'YYYYMMDD')) is not null
