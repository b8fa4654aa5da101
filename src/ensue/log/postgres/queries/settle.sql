-- Write down what is done of parked keys that go on, before their rows move or vanish; fenced like park.sql. A row whose
-- reason is :goes_on is about an event that is done already. `upto`: all of the key is done up to there; `handled`: the
-- event that was parked too, rather than been given up.
insert into ensue.settled (subscription, key, position, until, given_up, failures, parked_at, worker)
select k.subscription, k.key, k.position + case when k.reason = :goes_on then 1 else 0 end, x.upto,
    case when x.handled or k.reason = :goes_on then null
        when k.next_step = 'discard' and k.revision = x.revision then greatest(k.position, k.until)
        else k.position end,
    k.attempt, k.parked_at, p.owner
from json_to_recordset(cast(:rows as json)) as x (
    subscription text, key text, upto bigint, handled boolean, revision bigint, epoch bigint)
join ensue.parked k on k.subscription = x.subscription and k.key = x.key
    and k.position + case when k.reason = :goes_on then 1 else 0 end <= x.upto
join ensue.partitions p on p.subscription = x.subscription and k.slot between p.first_slot and p.last_slot
    and p.epoch = x.epoch
on conflict (subscription, key, position) do update
set until = greatest(settled.until, excluded.until), given_up = excluded.given_up, failures = excluded.failures,
    parked_at = excluded.parked_at, settled_at = excluded.settled_at, worker = excluded.worker
