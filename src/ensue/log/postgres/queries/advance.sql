-- Move a checkpoint in the transaction of what it stands for. Twice fenced: by the epoch of the lease, and by where the
-- transaction set out from. It finds nothing if the partition is another's, or elsewhere. Should the process be frozen
-- now, all who look for partitions would wait for it: the transaction does not stay open for long without a word.
update ensue.partitions
set checkpoint = :after, moved_at = clock_timestamp(), moved_by = owner
where subscription = :subscription and first_slot = :first_slot and epoch = :epoch and checkpoint = :before
returning checkpoint, set_config('idle_in_transaction_session_timeout', '10s', true)
