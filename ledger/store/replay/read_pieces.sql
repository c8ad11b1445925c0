-- The events of pieces of JSON. `strings` counts an event's JSON strings; it is null where the piece is not plainly,
-- by this query alone, an event that the ledger's Reader takes as it stands: then the Reader itself is asked.
--
-- Plain is: every field that the shape asks for, with a value that it allows; and nothing else, because the compact
-- text is as long as its fields are, or else because it has as many keys as were found. What this cannot see is a value
-- that is no text, which can make up for an extra key; the caller sees it by counting (see _doubt in events.py).
create or replace temp table event as
with parsed as (
    select *, json_extract_string(raw, ['$.specversion', '$.id', '$.source', '$.subject',
        '$.time', '$.type', '$.data.worker_id', '$.data.line', '$.data.accepted_city', '$.data.reason']) as f
    from piece
),
named as (
    select * exclude (f), f[1] as specversion, f[2] as id, f[3] as source, f[4] as order_id,
        f[7] as worker_id, f[8] as line_name, f[9] as city_name, f[10] as reason,
        strlen(f[7]) between 1 and 64 and not (strlen(f[7]) = 18 and like_identity_number(f[7])) as plain_worker,
        moment_us(f[5]) as us,
        case f[6] when 'order.accepted' then 65 when 'order.completed' then 67 when 'order.cancelled' then 88
            when 'order.reassigned' then 82 end as kind,
        strlen(f[2]) + strlen(f[3]) + strlen(f[4]) + strlen(f[5]) + strlen(f[6])
            + strlen('{"specversion":"1.0","id":"","source":"","subject":"","time":"","type":"","data":{}}') as bytes
    from parsed
),
shaped as (
    select *, (us + 28800000000) // 86400000000 as day,
        -- JSON strings in `data`; null where a field is missing or one too many
        case kind
            when 65 then case when plain_worker and line_name is not null and city_name is not null
                and reason is null then 6 end
            when 67 then case when worker_id is null and line_name is null and city_name is null and reason is null
                then 0 end
            when 82 then case when plain_worker and line_name is null and city_name is null
                and reason is null then 2 end
            when 88 then case when strlen(reason) between 1 and 64 and worker_id is null and line_name is null
                and city_name is null then 2 end
        end as data_strings,
        case kind
            when 65 then strlen(raw) = bytes + strlen('"worker_id":"","line":"","accepted_city":""') + strlen(worker_id)
                + strlen(line_name) + strlen(city_name)
            when 67 then strlen(raw) = bytes and case when suffix(raw, '"data":{}}') then true
                else contains(raw, '"data":{}') end
            when 82 then strlen(raw) = bytes + strlen('"worker_id":""') + strlen(worker_id)
            when 88 then strlen(raw) = bytes + strlen('"reason":""') + strlen(reason)
        end as compact
    from named
)
select p.place, (s.platform_no * 256 + kind) * 65536::bigint + (p.place & 65535) as tag, s.platform_no, kind, order_id,
    case kind when 65 then null when 82 then id else '' end as slot, us, worker_id, p.day, t.tariff_no, t.line, t.city,
    -- the words of those that have no tariff yet
    case when t.tariff_no is null then p.book end as book,
    case when t.tariff_no is null then p.line_name end as line_name,
    case when t.tariff_no is null then p.city_name end as city_name,
    case when specversion = '1.0' and s.platform_no is not null and data_strings is not null
        and strlen(id) between 1 and 64 and strlen(order_id) between 1 and 64
        and us between $scheme_began_us and latest
        and (printable or not regexp_matches(raw, '[^ -\[\]-~]'))
        then case when compact then 13 + data_strings else try(plain_strings(raw, data_strings)) end
    end as strings,
    case when compact then 0 else try(json_exists(raw, '$.data.position')::integer) end as positions
from shaped p
left join platform_source s on s.registry = p.registry and s.source = p.source
left join rated t on t.book = p.book and t.platform_no = s.platform_no and t.city_name = p.city_name
    and t.line_name = p.line_name and t.day = p.day
