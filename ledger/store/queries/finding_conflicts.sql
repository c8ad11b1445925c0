-- Versions that contradict the one that stands, by platform and by what differs.
select p.platform_id, array_to_string(f.differs, ', ') as differs, count(*) as versions,
    count(distinct f.order_id) as orders, min(f.order_id) as example
from conflict f
join platform p using (platform_no)
join batch b using (batch_id)
where cast(:since as timestamptz) is null or b.recorded_at >= cast(:since as timestamptz)
group by p.platform_id, f.differs
order by p.platform_id, count(*) desc
