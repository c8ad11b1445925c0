-- Rows that record no event of any segment; rows of a batch whose segment cannot be read are not judged.
select "table", place, platform_no, kind, order_id, slot, us, worker_id, entry_id
from row_rest
where row_no not in (select row_no from pairing)
order by "table", place
