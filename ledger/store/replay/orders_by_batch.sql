-- How many new orders of each tariff each batch holds.
select batch_id, tariff_no, sum(orders)::bigint from counted group by all having sum(orders) > 0 order by batch_id
