-- Whether order_event, batch by batch, holds the rows of charge and event_key and no others, by sums of a number drawn from
-- all values of a row with a seed that nobody knew when it was written (a seed of its own for each part, and the hash around
-- them, keep values from changing places unnoticed; a charge without an entry is of no known batch).
with stated as (
    select batch_id, order_id, occurred_at, worker_id, platform_no, ordinal, kind, line
    from order_event
), claimed as (
    select e.batch_id, c.order_id, c.accepted_at as occurred_at, c.worker_id, c.platform_no, c.ordinal,
        cast('A' as "char") as kind, c.line
    from charge c
    left join entry e on e.entry_id = c.entry_id
    union all
    select batch_id, order_id, occurred_at, worker_id, platform_no, ordinal, kind,
        case kind when 'R' then cast('*' as "char") end
    from event_key
), marked as (
    select side, batch_id, hashint8extended(
        hashtextextended(order_id, :seed)
            # timestamptz_hash_extended(occurred_at, :seed + 1)
            # coalesce(hashtextextended(worker_id, :seed + 2), 0)
            # hashint8extended(
                ((cast(platform_no as bigint) * 65536 + ordinal) * 512 + cast(kind as integer)) * 512
                    + coalesce(cast(line as integer), 256), :seed + 3),
        :seed + 4) as mark
    from (select 1 as side, * from stated union all select -1, * from claimed) both_sides
), sums as (
    select side, batch_id, count(*) as events, sum(mark) as marks from marked group by side, batch_id
)
select not exists (select from sums group by batch_id having sum(side * events) <> 0 or sum(side * marks) <> 0)
