-- The next rejected records of a partition from an offset on, whole records, in order.
select b.topic, b.partition, r.record_offset, r.item, r.platform_id, o.platform_id as owner_id, r.reason, r.place,
    r.detail, r.raw
from batch b
join rejected_record r using (batch_id)
left join source s on s.topic = b.topic
left join platform o on o.platform_no = s.platform_no
where b.topic = :topic and b.partition = :partition and b.next_offset > :since
    and r.record_offset >= :since and r.record_offset < :until
    and r.record_offset <= (
        select max(record_offset) from (
            select r.record_offset
            from batch b
            join rejected_record r using (batch_id)
            where b.topic = :topic and b.partition = :partition and b.next_offset > :since
                and r.record_offset >= :since and r.record_offset < :until
            group by r.record_offset
            order by r.record_offset
            limit :records
        ) next_ones
    )
order by r.record_offset, r.item
