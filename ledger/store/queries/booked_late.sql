-- What batches of a topic from an offset on booked in a later month than it happened in, because that one was sealed.
select e.origin_month, e.month, sum(e.order_count) as order_count
from batch b
join entry e using (batch_id)
where b.topic = :topic and b.first_offset >= :first_offset and e.month <> e.origin_month
group by e.origin_month, e.month
order by e.origin_month, e.month
