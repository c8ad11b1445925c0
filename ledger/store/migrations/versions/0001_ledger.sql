-- The ledger. Facts are appended and never changed: the database itself refuses update, delete and truncate.
-- Money is a whole number of 毫 (1/10,000 yuan). Instants are UTC; days and months are cut in Asia/Shanghai.
-- A percent sign must not stand in this file (drivers take it for a parameter).

-- ---------------------------------------------------------------------------------------------------------------
-- Who writes what. The roles belong to the cluster and may exist already; the grants are at the end.

do $$
declare name text;
begin
    foreach name in array array['danbao_registrar', 'danbao_ingest', 'danbao_settle', 'danbao_audit'] loop
        begin
            if not exists (select from pg_roles where rolname = name) then
                execute 'create role ' || quote_ident(name) || ' nologin';
            end if;
        exception when duplicate_object or unique_violation then null;  -- another database of the cluster was quicker
        end;
        execute 'grant ' || quote_ident(name) || ' to current_user with inherit false, set true';
    end loop;
end $$;

create extension if not exists btree_gist;  -- equality beside WITHOUT OVERLAPS

-- ---------------------------------------------------------------------------------------------------------------
-- Refusals, each one sentence.

create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'facts are never changed: % on % is refused', tg_op, tg_table_name
        using errcode = 'DB001', hint = 'Correct by a new, linked fact.';
end $$;

-- Protects one table against update, delete and truncate, whoever asks.
create procedure append_only(target regclass) language plpgsql as $$
begin
    execute 'create trigger append_only before update or delete on ' || target
         || ' for each row execute function refuse_change()';
    execute 'create trigger append_only_truncate before truncate on ' || target
         || ' for each statement execute function refuse_change()';
end $$;

-- ---------------------------------------------------------------------------------------------------------------
-- Platforms 平台企业.

create table platform (
    platform_no    smallint generated always as identity primary key,
    platform_id    text not null unique check (platform_id ~ '^[a-z0-9][a-z0-9_-]{0,31}$'),
    name           text not null check (length(name) between 1 and 128),
    name_zh        text not null check (length(name_zh) between 1 and 128),
    aliases        text[] not null default '{}',
    uscc           text not null unique check (length(uscc) = 18),  -- GB 32100 unified social credit code
    example        boolean not null default false,
    registered_at  timestamptz not null default now()
);
create table platform_line (
    platform_no  smallint not null references platform,
    line         text not null,
    registered_at timestamptz not null default now(),
    primary key (platform_no, line)
);
create table platform_province (
    platform_no  smallint not null references platform,
    province     text not null check (province ~ '^[1-6][0-9]$'),
    first_day    date not null check (first_day >= date '2022-07-01'),
    registered_at timestamptz not null default now(),
    primary key (platform_no, province)
);

-- ---------------------------------------------------------------------------------------------------------------
-- Rules 规则: every rulebook that ever decided something, whole, and its rates, which cannot overlap.

create table rulebook (
    rulebook_hash  bytea primary key check (length(rulebook_hash) = 32),
    content        text not null,
    recorded_at    timestamptz not null default now(),
    check (sha256(convert_to(content, 'UTF8')) = rulebook_hash)
);
create table rate (
    rulebook_hash  bytea not null references rulebook,
    line           text not null,
    province       text not null,  -- two digits, or 'any'
    platform_id    text not null,  -- or 'any'
    in_force       daterange not null,
    premium_base   integer not null check (premium_base >= 0),
    mark           text not null check (mark in ('V', 'V2', 'P', 'A', 'U')),
    source         text not null check (length(source) > 0),
    primary key (rulebook_hash, line, province, platform_id, in_force without overlaps)
);

-- ---------------------------------------------------------------------------------------------------------------
-- Where records come from, and how far we got. partition_head is bookmark, fence and head of the evidence chain.

create table source (
    topic         text primary key,
    description   text not null,
    mapping       text,     -- a CSV file's mapping, whole, so that a replay reads the rows as we did
    header        bytea,    -- and its header line
    shift_days    integer,  -- and by how many days its dates were moved
    registered_at timestamptz not null default now()
);
create table partition_head (
    topic        text not null,
    partition    integer not null,
    next_offset  bigint not null check (next_offset >= 0),
    chain_hash   bytea not null check (length(chain_hash) = 32),
    primary key (topic, partition)
);

-- One row per transaction of the loop, and the raw bytes that it read.
create table batch (
    batch_id       bigint generated by default as identity primary key,
    topic          text not null,
    partition      integer not null,
    first_offset   bigint not null,
    next_offset    bigint not null check (next_offset > first_offset),
    rulebook_hash  bytea not null references rulebook,
    recorded_at    timestamptz not null default now(),
    events         integer not null,
    new            integer not null,
    duplicate      integer not null,
    conflict       integer not null,
    rejected       integer not null,
    raw_bytes      bigint not null,
    raw_sha256     bytea not null check (length(raw_sha256) = 32),
    chain_before   bytea not null check (length(chain_before) = 32),
    chain_after    bytea not null check (length(chain_after) = 32),
    check (events = new + duplicate + conflict + rejected),
    unique (topic, partition, first_offset)
);
create table segment (
    batch_id  bigint primary key references batch,
    payload   bytea not null  -- zstd; format in ledger/evidence.py
);
alter table segment alter column payload set storage external;

-- ---------------------------------------------------------------------------------------------------------------
-- Order events 订单事件, by local day. No key of its own: charge and event_key hold every event's key, whatever day
-- it claims; a key here would only see its own day.

create table order_event (
    occurred_at  timestamptz not null,
    batch_id     bigint not null,
    platform_no  smallint not null,
    ordinal      smallint not null, -- the event's place in the batch
    kind         "char" not null check (kind in ('A', 'R', 'C', 'X')),  -- accepted, reassigned, completed, cancelled
    order_id     text not null,
    worker_id    text,              -- who has the order from now on; null for an ending
    check ((kind in ('A', 'R')) = (worker_id is not null))
) partition by range (occurred_at);
create index order_event_worker on order_event (worker_id) where worker_id is not null;
call append_only('order_event');

-- Builds a day beside and attaches it, so that readers are not waited for; returns whether the day is new.
create function make_order_event_day(day date) returns boolean
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    part text := 'order_event_' || to_char(day, 'YYYYMMDD');
    from_ timestamptz := (day::timestamp at time zone 'Asia/Shanghai');
    until_ timestamptz := ((day + 1)::timestamp at time zone 'Asia/Shanghai');
begin
    if day < date '2022-07-01' or day > current_date + 400 then
        raise exception 'no day for order events: %', day using errcode = 'DB002';
    end if;
    perform pg_advisory_xact_lock(20220701);
    if to_regclass(part) is not null then
        return false;
    end if;
    execute format('create table %I (like order_event including all excluding indexes)', part);
    execute format('alter table order_event attach partition %I for values from (%L) to (%L)', part, from_, until_);
    execute format('create trigger append_only_truncate before truncate on %I for each statement'
                   ' execute function refuse_change()', part);
    return true;
end $$;
revoke execute on function make_order_event_day(date) from public;

-- ---------------------------------------------------------------------------------------------------------------
-- Books 账簿: chart of accounts, entries that sum to zero, one charge per order for ever.

create table account (
    account_id   integer generated always as identity primary key,
    kind         text not null check (kind in ('premium_receivable', 'premium_income', 'rounding_residue')),
    province     text not null check (province ~ '^[1-6][0-9]$'),
    platform_no  smallint references platform,
    check ((kind = 'premium_receivable') = (platform_no is not null)),
    unique nulls not distinct (kind, province, platform_no)
);
create table entry (
    entry_id       bigint generated by default as identity primary key,
    batch_id       bigint references batch,  -- null: made by a settlement
    kind           text not null check (kind in ('premium', 'rounding')),
    platform_no    smallint not null references platform,
    province       text not null,
    line           text not null,
    month          date not null check (extract(day from month) = 1),         -- the month it is booked in
    origin_month   date not null check (extract(day from origin_month) = 1),  -- the month it happened in
    premium_base   integer not null,
    float_factor   numeric(6, 4) not null,
    order_count    integer not null,
    rulebook_hash  bytea not null references rulebook,
    recorded_at    timestamptz not null default now(),
    recorded_in    xid8 not null default pg_current_xact_id(),  -- its postings come in the same transaction or never
    check (origin_month <= month),
    check ((kind = 'premium') = (batch_id is not null))
);
create index entry_month on entry (province, month);
create table posting (
    entry_id     bigint not null references entry,
    posting_no   smallint not null,
    account_id   integer not null references account,
    occurred_on  date not null,
    order_count  integer not null,
    amount       bigint not null,  -- 毫; debit positive, credit negative
    primary key (entry_id, posting_no)
);
create index posting_account on posting (account_id, occurred_on);

create table charge (
    entry_id     bigint,            -- null: the rule charges nothing at acceptance (see charge_change)
    accepted_at  timestamptz not null,
    city         integer not null,  -- accepted_city; its first two digits are the province of the fund
    amount       integer not null check (amount >= 0),
    platform_no  smallint not null,
    ordinal      smallint not null,
    line         "char" not null,
    order_id     text not null,
    worker_id    text not null,
    primary key (platform_no, order_id)
);
-- What a later event changed in an order's charge, where the rules say so (completion charges, cancellation reverses).
create table charge_change (
    platform_no  smallint not null,
    order_id     text not null,
    kind         text not null check (kind in ('charge', 'reverse')),
    entry_id     bigint not null references entry,
    amount       integer not null check (amount <> 0),
    primary key (platform_no, order_id, kind)
);
-- The key of every later event, and where it is: the ending (slot '') comes once, a reassignment once per event id.
create table event_key (
    occurred_at  timestamptz not null,
    batch_id     bigint not null,
    platform_no  smallint not null,
    ordinal      smallint not null,
    kind         "char" not null check (kind in ('R', 'C', 'X')),
    order_id     text not null,
    slot         text not null,
    worker_id    text,
    check ((kind = 'R') = (worker_id is not null)),
    check ((kind = 'R') = (slot <> '')),
    primary key (platform_no, order_id, slot)
);

-- ---------------------------------------------------------------------------------------------------------------
-- What did not become a charge or an event, kept whole.

create table conflict (
    batch_id     bigint not null references batch,
    ordinal      smallint not null,
    platform_no  smallint not null references platform,
    order_id     text not null,
    differs      text[] not null check (cardinality(differs) > 0),  -- time, worker, city, line, type
    event        jsonb not null,  -- the version that came second
    primary key (batch_id, ordinal)
);
create index conflict_order on conflict (platform_no, order_id);
create table rejected_record (
    batch_id     bigint not null references batch,
    record_offset bigint not null,
    item         integer not null,  -- place in the record's list; -1: the record as a whole
    platform_id  text,
    reason       text not null,
    place        text not null,
    detail       text not null,
    raw          bytea not null,
    primary key (batch_id, record_offset, item)
);

-- ---------------------------------------------------------------------------------------------------------------
-- The settled month.

create table settlement (
    province       text not null check (province ~ '^[1-6][0-9]$'),
    month          date not null check (extract(day from month) = 1),
    order_count    bigint not null,
    amount         bigint not null,        -- 毫 before rounding
    declared_fen   bigint not null,
    due_on         date not null,
    rulebook_hash  bytea not null references rulebook,
    sealed_at      timestamptz not null default now(),
    primary key (province, month)
);
create table declaration (
    province      text not null,
    month         date not null,
    declaration_no integer not null,
    platform_no   smallint not null references platform,
    line          text not null,
    origin_month  date not null,
    premium_base  integer not null,
    float_factor  numeric(6, 4) not null,
    order_count   bigint not null,
    amount        bigint not null,        -- 毫 before rounding
    declared_fen  bigint not null,
    entry_id      bigint references entry, -- the rounding entry; null where nothing was left over
    primary key (province, month, declaration_no),
    unique (province, month, platform_no, line, origin_month, premium_base, float_factor),
    foreign key (province, month) references settlement deferrable initially deferred
);

create function month_lock(province text, month date) returns bigint language sql immutable as
    $$ select province::bigint * 1000000 + extract(year from month)::bigint * 100 + extract(month from month)::bigint $$;

-- A settled month takes no entry. The lock orders ingest (shared) and settlement (exclusive) of the same month.
create function refuse_sealed_month() returns trigger language plpgsql as $$
declare hit record;
begin
    perform pg_advisory_xact_lock_shared(month_lock(m.province, m.month))
       from (select distinct province, month from fresh order by province, month) m;
    select s.province, s.month into hit from settlement s join fresh f using (province, month) limit 1;
    if found then
        raise exception 'month % of province % is sealed', to_char(hit.month, 'YYYY-MM'), hit.province
            using errcode = 'DB003', hint = 'Book in the open month and name the month of origin.';
    end if;
    return null;
end $$;
create trigger sealed_month after insert on entry referencing new table as fresh
    for each statement execute function refuse_sealed_month();

create function refuse_strange_postings() returns trigger language plpgsql as $$
begin
    if exists (select from fresh join entry using (entry_id) where recorded_in <> pg_current_xact_id()) then
        raise exception 'postings come with their entry or never' using errcode = 'DB001';
    end if;
    return null;
end $$;
create trigger with_its_entry after insert on posting referencing new table as fresh
    for each statement execute function refuse_strange_postings();

create function refuse_unbalanced() returns trigger language plpgsql as $$
declare total bigint; lines integer;
begin
    select sum(amount), count(*) into total, lines from posting where entry_id = new.entry_id;
    if lines < 2 or total <> 0 then
        raise exception 'entry % does not balance: % postings, sum %', new.entry_id, lines, total
            using errcode = 'DB004';
    end if;
    return null;
end $$;
create constraint trigger balanced after insert on entry deferrable initially deferred
    for each row execute function refuse_unbalanced();
create constraint trigger balanced after insert on posting deferrable initially deferred
    for each row execute function refuse_unbalanced();

do $$
declare name text;
begin
    foreach name in array array['platform', 'platform_line', 'platform_province', 'rulebook', 'rate', 'source', 'batch',
        'segment', 'account', 'entry', 'posting', 'charge', 'charge_change', 'event_key', 'conflict', 'rejected_record',
        'settlement', 'declaration'] loop
        call append_only(name::regclass);
    end loop;
end $$;

-- ---------------------------------------------------------------------------------------------------------------
-- The inbox: the door for records where there is no Kafka. Offsets have no gaps, because the counter's row is locked
-- until its transaction ends.

create table inbox (
    record_offset  bigint primary key,
    arrived_at     timestamptz not null default now(),
    record         bytea not null check (length(record) between 1 and 8388608)
);
call append_only('inbox');
create table inbox_counter (only_row boolean primary key default true check (only_row), next_offset bigint not null);
insert into inbox_counter (next_offset) values (0);
create function inbox_put(record bytea) returns bigint
language sql security definer set search_path = public, pg_temp as $$
    with counter as (update inbox_counter set next_offset = next_offset + 1 returning next_offset - 1 as place)
    insert into inbox (record_offset, record) select place, record from counter returning record_offset
$$;
revoke execute on function inbox_put(bytea) from public;

-- ---------------------------------------------------------------------------------------------------------------
-- Least privilege: an auditor writes nothing, ingest cannot settle, settlement cannot charge.

do $$
begin  -- a temporary table could stand before a real one
    execute 'revoke temporary on database ' || quote_ident(current_database()) || ' from public';
end $$;

-- Ingest books premiums, settlement only what rounding leaves over.
alter table entry enable row level security;
create policy read_all on entry for select using (true);
create policy book_premiums on entry for insert to danbao_ingest with check (kind = 'premium');
create policy book_rounding on entry for insert to danbao_settle with check (kind = 'rounding');

grant usage on schema public to danbao_registrar, danbao_ingest, danbao_settle, danbao_audit;
grant select on all tables in schema public to danbao_registrar, danbao_ingest, danbao_settle, danbao_audit;
alter default privileges in schema public grant select on tables
    to danbao_registrar, danbao_ingest, danbao_settle, danbao_audit;

grant usage on all sequences in schema public to danbao_registrar, danbao_ingest, danbao_settle;
grant insert on platform, platform_line, platform_province to danbao_registrar;

grant insert on rulebook, rate, source, partition_head, batch, segment, order_event, account, entry, posting, charge,
    charge_change, event_key, conflict, rejected_record to danbao_ingest;
grant update (next_offset, chain_hash) on partition_head to danbao_ingest;
grant execute on function make_order_event_day(date), inbox_put(bytea) to danbao_ingest;

grant insert on rulebook, rate, account, entry, posting, settlement, declaration to danbao_settle;
