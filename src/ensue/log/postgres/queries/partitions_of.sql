select first_slot, last_slot, checkpoint, ahead::text, owner, epoch from ensue.partitions where subscription = :subscription
order by first_slot for update
