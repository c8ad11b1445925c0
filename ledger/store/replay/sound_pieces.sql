-- The pieces with those that are no JSON left empty, so that the others can be read.
select place, case when json_valid(raw) then raw end as raw, latest, printable from piece
