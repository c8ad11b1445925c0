-- Rejected records of a platform, or of an unknown one, that hold the text of an order id, the latest first.
select batch_id, record_offset, item, reason, place, detail
from rejected_record
where (platform_id = :platform_id or platform_id is null) and position(convert_to(:order_id, 'UTF8') in raw) > 0
order by batch_id desc, record_offset desc, item
limit 5
