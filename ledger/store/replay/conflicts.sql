-- Events that contradict the version that stands, both versions.
select u.place, u.platform_no, u.order_id, u.slot, u.kind, u.us, u.worker_id, u.line, u.city, u.tariff_no,
    s.kind as standing_kind, s.us as standing_us, s.worker_id as standing_worker_id, s.line as standing_line,
    s.city as standing_city
from answer a
join unpaired u on u.place = a.place
join standing s on s.sort = u.sort and s.platform_no = u.platform_no and s.order_id = u.order_id and s.place = a.standing
where a.answer = 'conflict'
order by u.place
