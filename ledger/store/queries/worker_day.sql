-- What became the worker's on one day, of some lines: a part of order_facts, which asks for each day by its name.
union all
select order_id, occurred_at, line from {day}
where worker_id = :worker_id and platform_no = :platform_no and line = any(cast({lines} as "char"[]))
