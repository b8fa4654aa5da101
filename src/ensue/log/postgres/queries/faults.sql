-- What fails: parked keys by subscription, type, the class of the error, the hour in which they were parked, and whether they
-- are tried again by themselves. It reads an index, not the table.
select subscription, type, fault, next_step <> 'wait', floor(extract(epoch from parked_at) / 3600)::bigint, count(*)
from ensue.parked
where cast(:subscription as text) is null or subscription = cast(:subscription as text)
group by 1, 2, 3, 4, 5
