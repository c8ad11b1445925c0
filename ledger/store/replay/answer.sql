-- What became of each event that no row records: the version of its key that stands, and whether the event repeats it,
-- contradicts it, or should itself stand.
create table unpaired as
select * from event_rest
where books = 'claim' and place not in (select place from pairing where books = 'claim');
create table asked as select distinct sort, platform_no, order_id from unpaired;
create table standing as
with recorded as (
    select a.*, c.place, 65 as kind, c.us, c.worker_id, (c.tag >> 16) & 255 as line, c.city
    from asked a
    join charge c on a.sort = 'A' and c.order_id = a.order_id and c.tag >> 24 = a.platform_no
    union all
    select a.*, k.place, (k.tag >> 16) & 255, k.us, k.worker_id, null, null
    from asked a
    join event_key k on a.sort = '/' || k.slot and k.order_id = a.order_id and k.tag >> 24 = a.platform_no
)
select recorded.*
from recorded
anti join (from row_rest where books = 'claim') r using (sort, platform_no, order_id)
union all
select e.sort, e.platform_no, e.order_id, e.place, e.kind, e.us, e.worker_id, e.line, e.city
from event_rest e
semi join (from pairing where books = 'claim') p on p.place = e.place
semi join asked using (sort, platform_no, order_id)
where e.books = 'claim';
insert into standing
select sort, platform_no, order_id, place, kind, us, worker_id, line, city
from unpaired
anti join standing using (sort, platform_no, order_id)
qualify row_number() over (partition by sort, platform_no, order_id order by place) = 1;
create table answer as
select distinct on (u.place) u.place, u.tariff_no, s.place as standing,
    case when s.place = u.place then 'missing'
        when u.kind = s.kind and u.us = s.us and u.worker_id is not distinct from s.worker_id
            and u.line is not distinct from s.line and u.city is not distinct from s.city then 'duplicate'
        else 'conflict'
    end as answer
from unpaired u
join standing s using (sort, platform_no, order_id);
insert into counted
select place >> 16, tariff_no, -count(*) from answer where answer <> 'missing' and tariff_no is not null group by all;
