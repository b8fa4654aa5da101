-- All checkpoints of a worker in one statement, each fenced by its epoch; returns those that were taken.
update ensue.partitions p
set checkpoint = greatest(p.checkpoint, x.checkpoint), moved_at = clock_timestamp()
from json_to_recordset(cast(:rows as json)) as x (subscription text, first_slot integer, epoch bigint, checkpoint bigint)
where p.subscription = x.subscription and p.first_slot = x.first_slot and p.epoch = x.epoch
returning p.subscription, p.first_slot
