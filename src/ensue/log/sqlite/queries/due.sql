-- Parked keys whose time has come, of the partitions that this worker holds; the log's order within a moment.
select k.subscription, k.key, k.slot, k.position, k.id, k.type, k.next_step, k.attempt, k.data, k.revision,
    (julianday('now') - julianday(k.tries_since)) * 86400.0, k.until
from ensue_parked k
join ensue_partitions p on p.subscription = k.subscription and k.slot between p.first_slot and p.last_slot
where k.due_at <= strftime('%Y-%m-%dT%H:%M:%fZ', 'now') and p.owner = :worker
    and k.subscription in (select value from json_each(:subscriptions))
order by k.due_at, k.position
limit :limit
