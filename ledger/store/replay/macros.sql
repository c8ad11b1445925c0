-- The line that an order_event row says: an acceptance's own; '*' of a reassignment, which says none; null of an ending.
create macro said_line(kind, line) as case kind when 65 then line when 82 then 42 end;
-- How many strings a piece of JSON holds, or null where it holds more than an event's fields: for text that is not compact
-- or has optional fields.
create macro plain_strings(raw, data_strings) as case
    when not regexp_matches(raw, ',\s*[}\]]')  -- the parser here would take a comma too many
        and len(json_keys(raw)) = 7 + (json_exists(raw, '$.datacontenttype'))::int
        and json_type(raw, '$.data') = 'OBJECT'
        and len(json_keys(raw, '$.data')) = data_strings // 2 + json_exists(raw, '$.data.pay')::int
            + json_exists(raw, '$.data.position')::int
        and coalesce(json_extract_string(raw, '$.datacontenttype') = 'application/json',
            not json_exists(raw, '$.datacontenttype'))
        and coalesce(regexp_full_match(json_extract_string(raw, '$.data.pay'), '[0-9]{1,6}(\.[0-9]{1,4})?'),
            not json_exists(raw, '$.data.pay'))
        and (not json_exists(raw, '$.data.position') or plain_position(raw))
    then 13 + data_strings + 2 * json_exists(raw, '$.datacontenttype')::int + 2 * json_exists(raw, '$.data.pay')::int
        + 3 * json_exists(raw, '$.data.position')::int
end;
-- Whether a worker may go by an identity number, which the Reader refuses.
create macro like_identity_number(worker_id) as
    regexp_full_match(worker_id, '[1-9][0-9]{5}(19|20)[0-9]{2}[01][0-9][0-3][0-9]{4}[0-9Xx]');
create macro plain_position(raw) as
    json_type(raw, '$.data.position') = 'OBJECT' and len(json_keys(raw, '$.data.position')) = 2
    and plain_degrees(raw, '$.data.position.lat', 90) and plain_degrees(raw, '$.data.position.lng', 180);
create macro plain_degrees(raw, path, bound) as
    json_type(raw, path) in ('DOUBLE', 'UBIGINT', 'BIGINT')
    and abs(json_extract_string(raw, path)::double) <= bound;
-- A moment in µs since 1970, or null where the text is none as the shape of an event wants it. A moment in China to the
-- second is read at a third of the cost: no part of the pattern takes more digits than it should have, so the length of
-- the whole says that none has fewer.
create macro moment_us(time) as case
    when strlen(time) = 25 and starts_with(time, '20') and suffix(time, '+08:00')
        then epoch_us(try_strptime(time, '%Y-%m-%dT%H:%M:%S%z'))
    when regexp_full_match(time, '20[0-9]{2}-[01][0-9]-[0-3][0-9]T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]'
        || '(\.[0-9]{1,6})?(Z|[+-](0[0-9]|1[0-4]):[0-5][0-9])')
        then epoch_us(try_cast(time as timestamptz))
end;
