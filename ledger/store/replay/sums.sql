-- Entries whose postings do not sum to zero, or whose charges are not what they post to the platform's account.
with posted as (
    select entry_id, sum(amount) as total, count(*) as lines, sum(amount) filter (where kind = 'premium_receivable') as debit
    from posting
    left join account using (account_id)
    group by entry_id
),
charged as (
    select entry_id, sum(amount) as amount
    from (select entry_id, amount from charge where entry_id is not null union all select entry_id, amount from change)
    group by entry_id
)
select coalesce(e.entry_id, p.entry_id, c.entry_id) as entry_id, e.entry_id is not null as known, e.kind,
    coalesce(p.total, 0)::bigint as total, coalesce(p.lines, 0) as lines, coalesce(p.debit, 0)::bigint as posted,
    coalesce(c.amount, 0)::bigint as charged
from entry e
full join posted p on p.entry_id = e.entry_id
full join charged c on c.entry_id = coalesce(e.entry_id, p.entry_id)
where e.entry_id is null or coalesce(p.total, 1) <> 0 or p.lines < 2
    or (e.kind = 'premium' and coalesce(c.amount, 0) <> coalesce(p.debit, 0))
order by 1
