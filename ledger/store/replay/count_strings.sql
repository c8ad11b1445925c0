-- How many JSON strings the plain events of each batch hold, and how many of them are values.
select place >> 16, sum(strings)::bigint, sum((strings - 1 - 3 * positions) // 2)::bigint from event group by 1
