-- How many orders of each tariff each batch accepted.
insert into counted select place >> 16, tariff_no, count(*) from event where kind = 65 group by all
