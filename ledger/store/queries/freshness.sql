-- The newest day on which each platform has orders in each province, and when orders of that day were last booked.
select p.platform_id, a.province, newest.occurred_on, newest.recorded_at as booked_at
from account a
join platform p using (platform_no)
cross join lateral (  -- one step into the index from its end; postings of one day stand there as they were written
    select po.occurred_on, e.recorded_at
    from posting po
    join entry e using (entry_id)
    where po.account_id = a.account_id and e.kind = 'premium'
    order by po.occurred_on desc
    limit 1
) newest
where a.kind = 'premium_receivable'
order by p.platform_id, a.province
