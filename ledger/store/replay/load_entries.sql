-- Brings entries to the desk.
insert into entry by name
select * exclude (recorded_at), epoch_us(recorded_at) as recorded_us from incoming
