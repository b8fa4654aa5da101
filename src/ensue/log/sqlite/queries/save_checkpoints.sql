-- All checkpoints of a worker in one statement, each fenced by its epoch; returns those that were taken.
update ensue_partitions
set checkpoint = max(ensue_partitions.checkpoint, x.checkpoint), moved_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now')
from (
    select json_extract(value, '$.subscription') as subscription, json_extract(value, '$.first_slot') as first_slot,
        json_extract(value, '$.epoch') as epoch, json_extract(value, '$.checkpoint') as checkpoint
    from json_each(:rows)
) as x
where ensue_partitions.subscription = x.subscription and ensue_partitions.first_slot = x.first_slot
    and ensue_partitions.epoch = x.epoch
returning subscription, first_slot
