-- Retries 重新受理: rejected records that were put into the inbox as they came, since what they were rejected for may be gone.
-- Each once: what is rejected again is a rejection of its own.
create table retry (
    batch_id       bigint not null,
    record_offset  bigint not null,
    item           integer not null,
    inbox_offset   bigint not null unique references inbox,
    retried_by     text not null default session_user,
    retried_at     timestamptz not null default now(),
    primary key (batch_id, record_offset, item),
    foreign key (batch_id, record_offset, item) references rejected_record
);
call append_only('retry');
grant select on retry to danbao_registrar, danbao_ingest, danbao_settle, danbao_audit;
grant insert (batch_id, record_offset, item, inbox_offset) on retry to danbao_ingest;
