-- How many JSON strings the plain events of each batch hold.
select place >> 16, sum(strings)::bigint from event group by 1
