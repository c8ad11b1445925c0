-- Entries of a batch whose transaction number does not lie between those of its neighbours in the partition.
select e.entry_id, e.recorded_in, n.before
from (
    select batch_id, chain, first, last, lag(last) over (partition by chain order by first_offset) as before
    from (
        select b.batch_id, b.chain, b.first_offset, min(recorded_in) as first, max(recorded_in) as last
        from batch b join entry using (batch_id) group by all
    )
) n
join entry e using (batch_id)
where n.first <= n.before
order by e.entry_id
