-- Parked keys whose time has come, of the partitions that this worker holds; the log's order within a moment.
select k.subscription, k.key, k.slot, k.position, k.id, k.type, k.next_step, k.attempt, k.data, k.revision,
    cast(extract(epoch from clock_timestamp() - k.tries_since) as double precision), k.until
from ensue.parked k
join ensue.partitions p on p.subscription = k.subscription and k.slot between p.first_slot and p.last_slot
where k.due_at <= clock_timestamp() and p.owner = :worker
    and k.subscription in (select json_array_elements_text(cast(:subscriptions as json)))
order by k.due_at, k.position
limit :limit
