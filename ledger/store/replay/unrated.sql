-- Which words of acceptances on which days have no tariff on the desk yet.
select distinct book, platform_no, line_name, city_name, day
from event
where kind = 65 and tariff_no is null and strings is not null
