-- Under which names the order events of these days are kept, where there are any.
select day, cast(found as text) as name
from unnest(cast(:days as date[])) as day
cross join to_regclass('order_event_' || to_char(day, 'YYYYMMDD')) as found
where found is not null
