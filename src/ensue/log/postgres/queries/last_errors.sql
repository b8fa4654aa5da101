-- Per subscription, the latest failure of what is parked now; attempt 0 is one that has not failed.
select s.name, k.position, ensue.iso(k.failed_at), k.reason
from ensue.subscriptions s
cross join lateral (
    select p.position, p.failed_at, p.reason from ensue.parked p
    where p.subscription = s.name and p.attempt > 0 order by p.failed_at desc, p.position desc limit 1
) as k
order by s.name
