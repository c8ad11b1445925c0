-- The balance of every account of a province, by what had happened on a day and was recorded at an instant.
select a.kind, e.platform_no, sum(p.order_count) filter (where a.kind = 'premium_receivable') as order_count,
    sum(p.amount) as amount
from account a
join posting p using (account_id)
join entry e using (entry_id)
where a.province = :province
    and (cast(:platform_no as smallint) is null or e.platform_no = cast(:platform_no as smallint))
    and p.occurred_on <= :as_of
    and e.recorded_at <= :known_at
group by a.kind, e.platform_no
order by a.kind, e.platform_no
