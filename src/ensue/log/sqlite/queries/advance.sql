-- Move a checkpoint in the transaction of what it stands for. Twice fenced: by the epoch of the lease, and by where the
-- transaction set out from. It finds nothing if the partition is another's, or elsewhere.
update ensue_partitions
set checkpoint = :after, moved_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), moved_by = owner
where subscription = :subscription and first_slot = :first_slot and epoch = :epoch and checkpoint = :before
returning checkpoint
