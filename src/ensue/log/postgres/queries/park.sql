-- Park keys, or move parked ones on; fenced by the epoch, and without overwriting what a person has decided since,
-- unless it is about an event that has been handled meanwhile: see unpark.sql. What is to be discarded still is.
insert into ensue.parked (
    subscription, key, slot, position, id, type, next_step, due_at, attempt, reason, traceback, worker, parked_at,
    failed_at, tries_since, revision)
select x.subscription, x.key, x.slot, x.position, x.id, x.type, x.next_step,
    clock_timestamp() + make_interval(secs => x.delay), x.attempt, x.reason, x.traceback, x.worker,
    clock_timestamp(), clock_timestamp(), clock_timestamp(), x.revision
from json_to_recordset(cast(:rows as json)) as x (
    subscription text, key text, slot integer, position bigint, id text, type text, next_step text,
    delay double precision, attempt integer, reason text, traceback text, worker text, revision bigint, epoch bigint)
join ensue.partitions p on p.subscription = x.subscription and x.slot between p.first_slot and p.last_slot
    and p.epoch = x.epoch
on conflict (subscription, key) do update
set position = excluded.position, id = excluded.id, type = excluded.type, next_step = excluded.next_step,
    due_at = excluded.due_at, attempt = excluded.attempt, reason = excluded.reason, traceback = excluded.traceback,
    worker = excluded.worker, failed_at = excluded.failed_at, until = null,
    tries_since = case when parked.position = excluded.position then parked.tries_since else excluded.tries_since end,
    data = case when parked.position = excluded.position then parked.data end,
    parked_at = case when parked.position = excluded.position then parked.parked_at else excluded.parked_at end
where parked.revision = excluded.revision or exists (
    select 1 from json_to_recordset(cast(:rows as json)) as x (
        subscription text, key text, position bigint, revision bigint, handled boolean)
    where x.subscription = parked.subscription and x.key = parked.key and x.position > parked.position
        and x.position > coalesce(parked.until, 0) and x.revision >= parked.edited
        and (x.handled or parked.next_step <> 'retry'))
