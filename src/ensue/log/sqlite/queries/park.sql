-- Park keys, or move parked ones on; fenced by the epoch, and without overwriting what a person has decided since,
-- unless it is about an event that has been handled meanwhile: see unpark.sql. What is to be discarded still is.
insert into ensue_parked (
    subscription, key, slot, position, id, type, next_step, due_at, attempt, reason, traceback, worker, parked_at,
    failed_at, tries_since, revision)
select x.subscription, x.key, x.slot, x.position, x.id, x.type, x.next_step,
    strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '+' || x.delay || ' seconds'), x.attempt, x.reason, x.traceback, x.worker,
    strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), x.revision
from (
    select json_extract(value, '$.subscription') as subscription, json_extract(value, '$.key') as key,
        json_extract(value, '$.slot') as slot, json_extract(value, '$.position') as position,
        json_extract(value, '$.id') as id, json_extract(value, '$.type') as type,
        json_extract(value, '$.next_step') as next_step, json_extract(value, '$.delay') as delay,
        json_extract(value, '$.attempt') as attempt, json_extract(value, '$.reason') as reason,
        json_extract(value, '$.traceback') as traceback, json_extract(value, '$.worker') as worker,
        json_extract(value, '$.revision') as revision, json_extract(value, '$.epoch') as epoch
    from json_each(:rows)
) as x
join ensue_partitions p on p.subscription = x.subscription and x.slot between p.first_slot and p.last_slot
    and p.epoch = x.epoch
where true
on conflict (subscription, key) do update
set position = excluded.position, id = excluded.id, type = excluded.type, next_step = excluded.next_step,
    due_at = excluded.due_at, attempt = excluded.attempt, reason = excluded.reason, traceback = excluded.traceback,
    worker = excluded.worker, failed_at = excluded.failed_at, until = null,
    tries_since = case when ensue_parked.position = excluded.position then ensue_parked.tries_since else excluded.tries_since end,
    data = case when ensue_parked.position = excluded.position then ensue_parked.data end,
    parked_at = case when ensue_parked.position = excluded.position then ensue_parked.parked_at else excluded.parked_at end
where ensue_parked.revision = excluded.revision or exists (
    select 1 from json_each(:rows) x
    where json_extract(x.value, '$.subscription') = ensue_parked.subscription
        and json_extract(x.value, '$.key') = ensue_parked.key
        and json_extract(x.value, '$.position') > ensue_parked.position
        and json_extract(x.value, '$.position') > coalesce(ensue_parked.until, 0)
        and json_extract(x.value, '$.revision') >= ensue_parked.edited
        and (json_extract(x.value, '$.handled') or ensue_parked.next_step <> 'retry'))
