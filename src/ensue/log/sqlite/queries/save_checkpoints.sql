-- All checkpoints of a worker in one statement, each fenced by its epoch; returns those that were taken. `held` is why a
-- partition is held, and `again` in how many seconds it goes on; null if it is not: it is held since it was not.
update ensue_partitions
set checkpoint = max(ensue_partitions.checkpoint, x.checkpoint), moved_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now'),
    moved_by = owner,
    held_since = case when x.held is not null
        then coalesce(ensue_partitions.held_since, strftime('%Y-%m-%dT%H:%M:%fZ', 'now')) end,
    held_until = case when x.held is not null
        then strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '+' || x.again || ' seconds') end,
    held_reason = x.held
from (
    select json_extract(value, '$.subscription') as subscription, json_extract(value, '$.first_slot') as first_slot,
        json_extract(value, '$.epoch') as epoch, json_extract(value, '$.checkpoint') as checkpoint,
        json_extract(value, '$.held') as held, json_extract(value, '$.again') as again
    from json_each(:rows)
) as x
where ensue_partitions.subscription = x.subscription and ensue_partitions.first_slot = x.first_slot
    and ensue_partitions.epoch = x.epoch
returning subscription, first_slot
