-- Gives acceptances the tariffs that came to the desk since.
update event
set tariff_no = t.tariff_no, line = t.line, city = t.city
from rated t
where event.kind = 65 and event.tariff_no is null and t.book = event.book and t.platform_no = event.platform_no
    and t.line_name = event.line_name and t.city_name = event.city_name and t.day = event.day
