-- What became the worker's in a span of time that differs by line and begins no earlier than `earliest`, as two lists,
-- orders and times, which order_facts takes as they are.
select cast(array_agg(o.order_id) as text) as begun, cast(array_agg(o.occurred_at) as text) as begun_at
from unnest(cast(:lines as text[]), cast(:sinces as timestamptz[])) as span (line, since)
join order_event o on o.line = cast(span.line as "char") and o.occurred_at >= span.since
where o.worker_id = :worker_id and o.platform_no = :platform_no and o.occurred_at between :earliest and :at
