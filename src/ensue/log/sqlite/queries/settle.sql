-- Write down what is done of parked keys that go on, before their rows move or vanish; fenced like park.sql. A row whose
-- reason is :goes_on is about an event that is done already. `upto`: all of the key is done up to there; `handled`: the
-- event that was parked too, rather than been given up.
insert into ensue_settled (subscription, key, position, until, given_up, failures, parked_at, worker)
select k.subscription, k.key, k.position + (k.reason = :goes_on), x.upto,
    case when x.handled or k.reason = :goes_on then null
        when k.next_step = 'discard' and k.revision = x.revision then max(k.position, coalesce(k.until, 0))
        else k.position end,
    k.attempt, k.parked_at, p.owner
from (
    select json_extract(value, '$.subscription') as subscription, json_extract(value, '$.key') as key,
        json_extract(value, '$.upto') as upto, json_extract(value, '$.handled') as handled,
        json_extract(value, '$.revision') as revision, json_extract(value, '$.epoch') as epoch
    from json_each(:rows)
) as x
join ensue_parked k on k.subscription = x.subscription and k.key = x.key
    and k.position + (k.reason = :goes_on) <= x.upto
join ensue_partitions p on p.subscription = x.subscription and k.slot between p.first_slot and p.last_slot
    and p.epoch = x.epoch
where true
on conflict (subscription, key, position) do update
set until = max(ensue_settled.until, excluded.until), given_up = excluded.given_up, failures = excluded.failures,
    parked_at = excluded.parked_at, settled_at = excluded.settled_at, worker = excluded.worker
