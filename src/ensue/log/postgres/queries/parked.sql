-- Parked keys in the log's order.
select k.subscription, k.key, k.position, k.id, k.type, k.next_step, ensue.iso(k.due_at), k.attempt, k.reason, k.traceback,
    k.worker, coalesce(k.data, (select e.data::text from ensue.events e where e.position = k.position)),
    ensue.iso(k.parked_at), ensue.iso(k.failed_at), k.data is not null
from ensue.parked k order by k.position, k.subscription
