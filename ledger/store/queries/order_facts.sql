-- All that is recorded of an order, and of those orders begun by a worker that are worth a look for an instant: not
-- surely over by then, or passed on and still under way, or so long that a rule may have bounded them, or else the last
-- one that was over; and the first one begun after it.
with begun as materialized (
    select order_id, occurred_at
    from (
        select cast(null as text), cast(null as timestamptz), cast(null as "char") where false
        {days}
    ) of_days (order_id, occurred_at, line)
    where occurred_at <= :until
        and occurred_at >= (cast(:sinces as timestamptz[]))[array_position(cast(:lines as text[]), cast(line as text))]
), later as materialized (
    select b.order_id, b.occurred_at,
        min(k.occurred_at) filter (
            where k.occurred_at >= b.occurred_at and k.worker_id is distinct from :worker_id) as over_at,
        bool_or(k.slot = '' and k.occurred_at <= :at) as ended
    from begun b
    left join event_key k on k.platform_no = :platform_no and k.order_id = b.order_id
    where b.occurred_at <= :at
    group by b.order_id, b.occurred_at
), judged as materialized (
    select order_id, over_at, ended and over_at <= :at and over_at <= occurred_at + cast(:unbounded as interval) as over
    from later
), asked as materialized (
    select cast(:order_id as text) as order_id
    union
    select order_id from judged where over is not true or over_at = (select max(over_at) from judged where over)
    union
    (select order_id from begun where occurred_at > :at order by occurred_at limit 1)
)
select c.order_id, 'A' as kind, c.accepted_at as occurred_at, b.recorded_at, c.worker_id, b.batch_id, c.ordinal,
    cast(c.line as text) as line, c.city, c.amount, c.entry_id,
    (select sum(x.amount) from charge_change x where x.platform_no = c.platform_no and x.order_id = c.order_id) as changed,
    cast(null as text[]) as differs, cast(null as jsonb) as event
from asked
join charge c on c.platform_no = :platform_no and c.order_id = asked.order_id
left join entry e on e.entry_id = c.entry_id
left join batch b on b.batch_id = e.batch_id
union all
select k.order_id, cast(k.kind as text), k.occurred_at, b.recorded_at, k.worker_id, k.batch_id, k.ordinal,
    null, null, null, null, null, null, null
from asked
join event_key k on k.platform_no = :platform_no and k.order_id = asked.order_id
join batch b on b.batch_id = k.batch_id
union all
select v.order_id, 'conflict', null, b.recorded_at, null, v.batch_id, v.ordinal,
    null, null, null, null, null, v.differs, v.event
from asked
join conflict v on v.platform_no = :platform_no and v.order_id = asked.order_id
join batch b on b.batch_id = v.batch_id
