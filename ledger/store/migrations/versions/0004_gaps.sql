-- Gaps 缺口: records that a broker lost before they were booked, and that somebody decided to go on without. Who it was is the
-- database's word; what is said of a gap stays said.
create table gap (
    topic         text not null,
    partition     integer not null,
    first_offset  bigint not null check (first_offset >= 0),
    next_offset   bigint not null check (next_offset > first_offset),
    why           text not null check (length(why) between 1 and 500),
    accepted_by   text not null default session_user,
    accepted_at   timestamptz not null default now(),
    primary key (topic, partition, first_offset, next_offset)
);
call append_only('gap');
grant select on gap to danbao_registrar, danbao_ingest, danbao_settle, danbao_audit;
grant insert (topic, partition, first_offset, next_offset, why) on gap to danbao_registrar;
