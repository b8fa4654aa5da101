-- Parked keys in the log's order; data as bytes, as an event that is not UTF-8 is parked too.
select k.subscription, k.key, k.position, k.id, k.type, k.next_step, k.due_at, k.attempt, k.reason, k.traceback,
    k.worker, cast(coalesce(k.data, (select e.data from ensue_events e where e.position = k.position)) as blob),
    k.parked_at, k.failed_at, k.data is not null
from ensue_parked k order by k.position, k.subscription
