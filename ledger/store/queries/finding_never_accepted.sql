-- Orders that ended or were passed on, but whose acceptance never came.
select p.platform_id, count(*) as orders, min(k.occurred_at) as first_at, min(k.order_id) as example
from event_key k
join platform p using (platform_no)
where not exists (select from charge c where c.platform_no = k.platform_no and c.order_id = k.order_id)
    and (cast(:since as timestamptz) is null
        or k.batch_id in (select batch_id from batch where recorded_at >= cast(:since as timestamptz)))
group by p.platform_id
order by p.platform_id
