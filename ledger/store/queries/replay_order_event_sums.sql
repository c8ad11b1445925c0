-- Batch by batch, how many rows order_event holds, or else charge and event_key, and the sum of a number drawn from all
-- values of each row with a seed that nobody knew when it was written (a seed of its own for each part, and the hash around
-- them, keep values from changing places unnoticed; a charge without an entry is of no known batch).
with told as (
    select batch_id, order_id, occurred_at, worker_id, platform_no, ordinal, kind, line
    from order_event
    where :stated
    union all
    select e.batch_id, c.order_id, c.accepted_at, c.worker_id, c.platform_no, c.ordinal, cast('A' as "char"), c.line
    from charge c
    left join entry e on e.entry_id = c.entry_id
    where not :stated
    union all
    select batch_id, order_id, occurred_at, worker_id, platform_no, ordinal, kind,
        case kind when 'R' then cast('*' as "char") end
    from event_key
    where not :stated
)
select batch_id, count(*) as events, sum(hashint8extended(
    hashtextextended(order_id, :seed)
        # timestamptz_hash_extended(occurred_at, :seed + 1)
        # coalesce(hashtextextended(worker_id, :seed + 2), 0)
        # hashint8extended(
            ((cast(platform_no as bigint) * 65536 + ordinal) * 512 + cast(kind as integer)) * 512
                + coalesce(cast(line as integer), 256), :seed + 3),
    :seed + 4)) as marks
from told
group by batch_id
