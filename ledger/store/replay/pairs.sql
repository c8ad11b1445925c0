-- Rows that record an event with other values, both versions.
select r."table", r.place, r.ordinal, r.platform_no, r.kind, r.order_id, r.slot, r.us, r.worker_id, r.line, r.city, r.amount,
    r.key_no, r.entry_id, e.place as e_place, (e.place & 65535) - 32768 as e_ordinal, e.platform_no as e_platform_no,
    e.kind as e_kind, e.order_id as e_order_id, e.slot as e_slot, e.us as e_us, e.worker_id as e_worker_id,
    e.line as e_line, e.city as e_city, case when t.charged then t.amount else 0 end as e_amount, t.key_no as e_key_no,
    coalesce(t.charged, false) as charged
from pairing p
join row_rest r on r.row_no = p.row_no
join event_rest e on e.books = p.books and e.place = p.place
left join tariff t on t.tariff_no = e.tariff_no
order by r."table", r.place
