-- When each platform's orders were first charged.
select platform_no, min(recorded_us) from entry where kind = 'premium' group by platform_no
