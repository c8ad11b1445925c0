-- What the batches of some topics after a given one booked, all together.
with those as (
    select * from batch where batch_id > :batch_id and topic = any(:topics)
), counted as (
    select coalesce(sum(next_offset - first_offset), 0)::bigint as records, coalesce(sum(events), 0)::bigint as events,
        coalesce(sum(new), 0)::bigint as new, coalesce(sum(duplicate), 0)::bigint as duplicate,
        coalesce(sum(conflict), 0)::bigint as conflict, coalesce(sum(rejected), 0)::bigint as rejected
    from those
), charged as (
    select coalesce(sum(p.order_count), 0)::bigint as orders, coalesce(sum(p.amount), 0)::bigint as premium
    from those
    join entry e using (batch_id)
    join posting p using (entry_id)
    join account a using (account_id)
    where a.kind = 'premium_receivable'
)
select counted.*, charged.*
from counted, charged
