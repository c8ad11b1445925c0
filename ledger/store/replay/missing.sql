-- Events that no row records although one should.
select 'claim' as books, place, platform_no, kind, order_id, slot, us, worker_id
from unpaired
where place in (select place from answer where answer = 'missing')
union all
select books, place, platform_no, kind, order_id, slot, us, worker_id
from event_rest
where books = 'order_event' and place not in (select place from pairing where books = 'order_event')
order by books, place
