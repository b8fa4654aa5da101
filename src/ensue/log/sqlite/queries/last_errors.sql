-- Per subscription, the latest failure of what is parked now; attempt 0 is one that has not failed.
select s.name, k.position, k.failed_at, k.reason
from ensue_subscriptions s
join ensue_parked k on k.rowid = (
    select p.rowid from ensue_parked p
    where p.subscription = s.name and p.attempt > 0 order by p.failed_at desc, p.position desc limit 1
)
order by s.name
