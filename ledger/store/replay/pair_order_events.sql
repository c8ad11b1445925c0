-- Pairs each row of order_event that has no equal with the event that it most likely records: of the same order and kind,
-- else at its place.
insert into pairing
select 'order_event', row_no, place
from (
    select r.row_no, e.place
    from row_rest r
    join event_rest e using (books, sort, platform_no, order_id)
    where books = 'order_event'
    qualify row_number() over (partition by r.row_no order by
        (e.us = r.us)::integer + (e.worker_id is not distinct from r.worker_id)::integer + (e.kind = r.kind)::integer
            + (e.place is not distinct from r.place)::integer desc, e.place) = 1
)
qualify row_number() over (partition by place order by row_no) = 1;
insert into pairing
select 'order_event', r.row_no, e.place
from row_rest r
join event_rest e on e.books = r.books and e.place = r.place and (e.kind = 65) = (r.kind = 65)
where r.books = 'order_event'
    and r.row_no not in (select row_no from pairing)
    and e.place not in (select place from pairing where books = 'order_event')
qualify row_number() over (partition by e.place order by r.row_no) = 1;
