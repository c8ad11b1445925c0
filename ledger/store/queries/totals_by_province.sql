-- Orders and premium by province, over all months.
select e.province, sum(p.order_count) as order_count, sum(p.amount) as amount
from entry e
join posting p using (entry_id)
join account a using (account_id)
where a.kind = 'premium_receivable'
group by e.province
order by sum(p.amount) desc, e.province
