-- Orders declared once more on another local day: charged once, but worth asking the platform about.
select p.platform_id, count(distinct f.order_id) as orders, min(f.order_id) as example
from conflict f
join platform p using (platform_no)
join charge c using (platform_no, order_id)
join batch b on b.batch_id = f.batch_id
where (cast(:since as timestamptz) is null or b.recorded_at >= cast(:since as timestamptz))
    and f.event ->> 'type' = 'order.accepted'
    and (c.accepted_at at time zone 'Asia/Shanghai')::date
        <> ((f.event ->> 'time')::timestamptz at time zone 'Asia/Shanghai')::date
group by p.platform_id
order by p.platform_id
