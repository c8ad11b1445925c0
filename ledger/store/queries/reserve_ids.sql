-- The next batch number, and as many entry numbers as asked for.
select nextval(pg_get_serial_sequence('batch', 'batch_id')),
    array(select nextval(pg_get_serial_sequence('entry', 'entry_id')) from generate_series(1, :entries))
