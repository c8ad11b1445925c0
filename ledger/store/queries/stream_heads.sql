-- How far each partition of a stream or of the inbox is booked, and what was booked of it since an instant.
select h.topic, h.partition, h.next_offset, last.recorded_at as booked_at, coalesce(recent.events, 0) as events,
    coalesce((
        select max(g.next_offset)
        from gap g
        where g.topic = h.topic and g.partition = h.partition and g.first_offset = h.next_offset
    ), h.next_offset) as goes_on_at
from partition_head h
left join source using (topic)
left join lateral (
    select b.recorded_at
    from batch b
    where b.topic = h.topic and b.partition = h.partition
    order by b.first_offset desc
    limit 1
) last on true
left join lateral (  -- by the key of batch, from its end: so many at most, whatever was booked before
    select sum(newest.events)::bigint as events
    from (
        select b.events, b.recorded_at
        from batch b
        where b.topic = h.topic and b.partition = h.partition
        order by b.first_offset desc
        limit :batches
    ) newest
    where newest.recorded_at > :since
) recent on true
where source.stream or h.topic = 'inbox'
order by h.topic, h.partition
