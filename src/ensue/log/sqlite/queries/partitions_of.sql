select first_slot, last_slot, checkpoint, ahead, owner, epoch from ensue_partitions where subscription = :subscription
order by first_slot
