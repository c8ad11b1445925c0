-- Streams: topics that platforms write to themselves, the keys that they sign with, and how far platforms were told what
-- was rejected.

alter table source add column stream boolean not null default false;
alter table source add column platform_no smallint references platform;  -- whose own topic it is; null: all share it
alter table source add check (platform_no is null or stream);
alter table source add check (not stream or (mapping is null and header is null and shift_days is null));

-- A key 报送签名公钥 is in force no sooner than a quarter of an hour after it is known, and ends no sooner either: by then
-- every consumer has heard of it (ledger/identity.py).
create table platform_key (
    platform_no    smallint not null references platform,
    public_key     bytea not null check (length(public_key) = 32),  -- Ed25519, RFC 8032
    in_force_from  timestamptz not null,
    registered_at  timestamptz not null default now(),
    primary key (platform_no, public_key),
    check (in_force_from >= registered_at + interval '15 minutes')
);
create table platform_key_end (
    platform_no     smallint not null,
    public_key      bytea not null,
    in_force_until  timestamptz not null,
    registered_at   timestamptz not null default now(),
    primary key (platform_no, public_key),
    foreign key (platform_no, public_key) references platform_key,
    check (in_force_until >= registered_at + interval '15 minutes')
);
call append_only('platform_key');
call append_only('platform_key_end');

-- A bookmark like partition_head, of what was sent to the topic of rejected records: sent again rather than left out.
create table rejections_told (
    topic        text not null,
    partition    integer not null,
    next_offset  bigint not null check (next_offset >= 0),
    primary key (topic, partition)
);

grant select on platform_key, platform_key_end, rejections_told
    to danbao_registrar, danbao_ingest, danbao_settle, danbao_audit;
grant insert on platform_key, platform_key_end to danbao_registrar;
grant insert on rejections_told to danbao_ingest;
grant update (next_offset) on rejections_told to danbao_ingest;
