-- Why events were rejected in the batches of some topics after a given one.
select reason, count(*) as events
from rejected_record
join batch using (batch_id)
where batch_id > :batch_id and topic = any(:topics)
group by reason
order by reason
