-- Acceptances and charge rows of some batches that are not equal in every value: the one, the other, or both.
create or replace temp table odd_charge as
select e, b
from (
    select event.*, tag - (65 - event.line) * 65536 as line_tag, t.amount, t.key_no, t.charged
    from event
    join tariff t using (tariff_no)
    where kind = 65
) e
full join (select * from charge where place between $first and $last) b on e.place = b.place
where (
    e.line_tag = b.tag and e.order_id = b.order_id and e.us = b.us and e.worker_id = b.worker_id and e.city = b.city
    and case when e.charged then e.amount = b.amount and e.key_no = b.key_no
        else b.amount = 0 and b.entry_id is null end
) is not true
