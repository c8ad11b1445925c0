-- Orders accepted where or in what their platform had not registered on that day: insured all the same.
select p.platform_id, e.province, e.line, sum(post.order_count) as orders, min(post.occurred_on) as first_day,
    max(post.occurred_on) as last_day,
    case when bool_and(l.line is null) then 'line_not_registered' else 'province_not_registered' end as finding
from entry e
join posting post using (entry_id)
join account a using (account_id)
join platform p on p.platform_no = e.platform_no
left join platform_province r on r.platform_no = e.platform_no and r.province = e.province
    and r.first_day <= post.occurred_on
left join platform_line l on l.platform_no = e.platform_no and l.line = e.line
where a.kind = 'premium_receivable' and e.kind = 'premium' and (r.province is null or l.line is null)
    and (cast(:since as timestamptz) is null or e.recorded_at >= cast(:since as timestamptz))
group by p.platform_id, e.province, e.line
order by p.platform_id, e.province, e.line
