-- Places of some batches that stand in order_event more than once.
select place from order_event where place between $first and $last group by place having count(*) > 1
