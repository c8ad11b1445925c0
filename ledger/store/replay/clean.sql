-- Where two rows claim one place and one of them equals its event, the event wants no other row; and no event stands twice.
create view recorded as
select 'claim' as books, place from charge
union all select 'claim', place from event_key
union all select 'order_event', place from order_event;
delete from event_rest
where (books, place) in (
    select odd.books, odd.place
    from (select books, place, count(*) as times from row_rest where place is not null group by all) odd
    join recorded using (books, place)
    group by odd.books, odd.place, odd.times
    having count(*) > odd.times
);
delete from event_rest
where (books, place) in (select books, place from row_rest)
    and rowid not in (select min(rowid) from event_rest group by books, place);
