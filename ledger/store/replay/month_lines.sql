-- What the entries of each province's month add up to, by platform, line, month of origin and rate.
select e.province, e.month, e.platform_no, e.line, e.origin_month, e.premium_base, e.float_factor,
    sum(p.order_count)::bigint as order_count, sum(p.amount)::bigint as amount
from entry e
join posting p using (entry_id)
join account a using (account_id)
where e.kind = 'premium' and a.kind = 'premium_receivable'
group by all
