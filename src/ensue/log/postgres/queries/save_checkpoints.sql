-- All checkpoints of a worker in one statement, each fenced by its epoch; returns those that were taken. `held` is why a
-- partition is held, and `again` in how many seconds it goes on; null if it is not: it is held since it was not.
update ensue.partitions p
set checkpoint = greatest(p.checkpoint, x.checkpoint), moved_at = clock_timestamp(), moved_by = p.owner,
    held_since = case when x.held is not null then coalesce(p.held_since, clock_timestamp()) end,
    held_until = case when x.held is not null then clock_timestamp() + make_interval(secs => x.again) end,
    held_reason = x.held
from json_to_recordset(cast(:rows as json)) as x
    (subscription text, first_slot integer, epoch bigint, checkpoint bigint, held text, again double precision)
where p.subscription = x.subscription and p.first_slot = x.first_slot and p.epoch = x.epoch
returning p.subscription, p.first_slot
