-- A number drawn from all values of an order event with a seed that nobody knew when it was written (a part of
-- replay_order_event_sums; each value is drawn from with what was drawn from those before it, so that none can change
-- places with another unnoticed, and from the bytes of the time, since PostgreSQL's own hash of eight bytes xors their
-- halves first, and a time moved by 71 minutes and 35 seconds could give the same).
hashtextextended(order_id, hashbyteaextended(timestamptz_send(occurred_at), hashint2extended(platform_no,
    hashint2extended(ordinal, hashcharextended(kind, hashint4extended(coalesce(cast(line as integer), 256),
    coalesce(hashtextextended(worker_id, :seed), :seed)))))))
