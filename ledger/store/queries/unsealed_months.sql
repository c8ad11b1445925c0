-- Which months up to one have entries but no settlement, by province.
with recursive months as (  -- a loose index scan: one step per province and month, however many entries
    (select province, month from entry order by province, month limit 1)
    union all
    select following.province, following.month
    from months,
    lateral (select e.province, e.month from entry e
             where (e.province, e.month) > (months.province, months.month)
             order by e.province, e.month limit 1) following
)
select province, month
from months
left join settlement using (province, month)
where settlement.sealed_at is null and month <= :month
order by province, month
