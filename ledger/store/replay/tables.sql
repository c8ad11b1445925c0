-- What a replay keeps while it runs: the books by the place of each row, and what the segments yield.
-- A place is one number for batch and ordinal: batch_id * 65536 + 32768 + ordinal. A tag is one number for
-- (platform_no, kind or line as its letter's code, ordinal): (platform_no * 256 + code) * 65536 + 32768 + ordinal.
create table batch (
    batch_id bigint primary key, chain integer, first_offset bigint, recorded_us bigint, followed_us bigint, plain boolean);
create table replayed (batch_id bigint);    -- batches whose segment was read
create table unreadable (batch_id bigint);  -- and those where it cannot be
create view known_batch as select batch_id from replayed union all select batch_id from unreadable;

create table platform_source (registry integer, source text, platform_no integer);
create table tariff (tariff_no integer, key_no integer, amount integer, charged boolean);
create table rated (  -- which tariff an acceptance has that says these words on that day
    book integer, platform_no integer, line_name text, city_name text, day integer, tariff_no integer, line integer,
    city integer);

create table entry (
    entry_id bigint, batch_id bigint, kind text, platform_no integer, province text, line text, month date,
    origin_month date, premium_base integer, float_factor text, order_count integer, rulebook_hash blob,
    recorded_us bigint, recorded_in bigint);
create table identity (
    platform_no integer, province text, line text, origin_month date, premium_base integer, float_factor text,
    key_no integer);
create table entry_key (entry_id bigint, batch_id bigint, key_no integer);
create table posting (
    entry_id bigint, posting_no integer, account_id integer, occurred_on date, order_count integer, amount bigint);
create table charge (
    place bigint, tag bigint, order_id text, us bigint, worker_id text, city integer, amount integer,
    entry_id bigint, key_no integer);
create table event_key (place bigint, tag bigint, order_id text, slot text, us bigint, worker_id text);
create table order_event (place bigint, tag bigint, order_id text, us bigint, worker_id text, line integer);

create table counted (batch_id bigint, tariff_no integer, orders bigint);
create table rejection (
    batch_id bigint, record_offset bigint, item integer, platform_id text, reason text, place text, detail text,
    raw blob);

-- Events and rows that have no equal on the other side. `books`: which of the two comparisons, 'claim' (charge and
-- event_key) or 'order_event'. `sort`: 'A' for an acceptance, '/' and the slot for a later event; in order_event the kind.
create table event_rest (
    books text, sort text, place bigint, platform_no integer, kind integer, order_id text, slot text, us bigint,
    worker_id text, line integer, city integer, tariff_no integer);
create sequence row_no;
create table row_rest (
    row_no bigint default nextval('row_no'), books text, "table" text, sort text, place bigint, ordinal integer,
    platform_no integer, kind integer, order_id text, slot text, us bigint, worker_id text, line integer, city integer,
    amount integer, key_no integer, entry_id bigint);
create table pairing (books text, row_no integer, place bigint);
create table extra_order_event (place bigint);
create table account (account_id integer, kind text);
create table change (platform_no integer, order_id text, kind text, entry_id bigint, amount integer);
