-- How much did not match.
select (select count(*) from odd_charge) + (select count(*) from odd_event_key) + (select count(*) from odd_order_event)
