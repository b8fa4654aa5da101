-- Per subscription, the latest failure of what is parked now; attempt 0 is one that has not failed.
select subscription, position, failed_at, reason
from (
    select k.*, row_number() over (partition by subscription order by failed_at desc, position desc) as place
    from ensue_parked k where attempt > 0
)
where place = 1
