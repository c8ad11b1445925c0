-- What the entries of one province's month add up to, by platform, line, month of origin and rate.
select e.platform_no, e.line, e.origin_month, e.premium_base, e.float_factor,
    sum(p.order_count) as order_count, sum(p.amount) as amount
from entry e
join posting p using (entry_id)
join account a using (account_id)
where e.province = :province and e.month = :month and e.kind = 'premium' and a.kind = 'premium_receivable'
group by e.platform_no, e.line, e.origin_month, e.premium_base, e.float_factor
