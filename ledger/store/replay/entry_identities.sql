-- What the orders of one entry share, each once.
select distinct platform_no, province, line, origin_month, premium_base, float_factor from entry
