-- The pieces with those that are no JSON left empty, so that the others can be read.
select * replace (case when json_valid(raw) then raw end as raw) from piece
