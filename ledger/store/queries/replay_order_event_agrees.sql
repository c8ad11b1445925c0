-- Whether order_event, batch by batch, holds the rows of charge and event_key and no others. Rows are compared by sums of
-- numbers drawn from all their values by a seed that nobody knew when they were written. The outer hash is what keeps
-- values from changing places: a row's own is a sum over its columns. A charge without an entry is of no known batch.
with stated as (
    select batch_id, hashint8extended(hash_record_extended(
        row(ordinal, platform_no, kind, order_id, occurred_at, worker_id, line), :seed), :seed) as mark
    from order_event
), claimed as (
    select e.batch_id, hashint8extended(hash_record_extended(
        row(c.ordinal, c.platform_no, cast('A' as "char"), c.order_id, c.accepted_at, c.worker_id, c.line), :seed), :seed) as mark
    from charge c
    left join entry e on e.entry_id = c.entry_id
    union all
    select batch_id, hashint8extended(hash_record_extended(
        row(ordinal, platform_no, kind, order_id, occurred_at, worker_id, case kind when 'R' then cast('*' as "char") end), :seed),
        :seed)
    from event_key
), stated_sums as (
    select batch_id, count(*) as events, sum(mark) as marks from stated group by batch_id
), claimed_sums as (
    select batch_id, count(*) as events, sum(mark) as marks from claimed group by batch_id
)
select not exists (
    select from stated_sums s
    full join claimed_sums c on c.batch_id = s.batch_id
    where (s.events, s.marks) is distinct from (c.events, c.marks)
)
