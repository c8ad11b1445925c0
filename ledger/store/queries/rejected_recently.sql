-- Why events were rejected since an instant, and how many for each reason.
with recursive halves as (  -- where the batches since then begin, found by halving: their numbers grow with time
    select min(batch_id) as low, max(batch_id) + 1 as high from batch
    union all
    select
        case when probe.recorded_at < earlier.instant then probe.batch_id + 1 else halves.low end,
        case when probe.recorded_at < earlier.instant then halves.high else (halves.low + halves.high) / 2 end
    from halves,
    -- batches that run side by side begin in another order than their numbers; none runs for as long as this
    lateral (select cast(:since as timestamptz) - interval '10 minutes' as instant) earlier,
    lateral (
        select b.batch_id, b.recorded_at
        from batch b
        where b.batch_id >= (halves.low + halves.high) / 2
        order by b.batch_id
        limit 1
    ) probe
    where halves.low < halves.high
)
select r.reason, count(*) as events
from batch b
join rejected_record r using (batch_id)
where b.batch_id >= (select max(low) from halves) and b.recorded_at >= :since and b.rejected > 0
group by r.reason
order by count(*) desc, r.reason
