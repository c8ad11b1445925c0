-- Orders that were accepted under rules by which an ending can change the charge, and have ended: both places, and which
-- of them was booked later, if that can be known.
select c.tag >> 24 as platform_no, c.order_id, c.place, k.place as end_place, c.us, c.city, (c.tag >> 16) & 255 as line,
    (k.tag >> 16) & 255 as kind,
    case when a.batch_id = e.batch_id or (a.chain = e.chain and a.first_offset < e.first_offset)
            or e.recorded_us > a.followed_us then 'end'
        when a.chain = e.chain or a.recorded_us > e.followed_us then 'acceptance' end as later
from charge c
join event_key k on k.order_id = c.order_id and k.tag >> 24 = c.tag >> 24 and k.slot = ''
join batch a on a.batch_id = c.place >> 16
join batch e on e.batch_id = k.place >> 16
where not a.plain
order by 1, 2
