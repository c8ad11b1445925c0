-- An acceptance whose line, city or day has no tariff is not plain.
update event set strings = null where kind = 65 and tariff_no is null
