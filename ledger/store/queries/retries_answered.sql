-- What became of records that were put into the inbox again, by their place in it.
select put.inbox_offset,
    case when head.next_offset is null or put.inbox_offset >= head.next_offset then 'waits'
        when exists (
            select from batch b join rejected_record r using (batch_id)
            where b.topic = 'inbox' and b.first_offset <= put.inbox_offset and b.next_offset > put.inbox_offset
                and r.record_offset = put.inbox_offset) then 'rejected'
        else 'passed' end as answer
from unnest(cast(:offsets as bigint[])) as put (inbox_offset)
left join partition_head head on head.topic = 'inbox' and head.partition = 0
