-- What fails: parked keys by subscription, type, the class of the error, the hour in which they were parked, and whether they
-- are tried again by themselves. It reads an index, not the table.
select subscription, type, fault, next_step <> 'wait', substr(parked_at, 1, 13), count(*)
from ensue_parked indexed by ensue_parked_faults
where :subscription is null or subscription = :subscription
group by 1, 2, 3, 4, 5
