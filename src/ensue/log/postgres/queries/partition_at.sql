select epoch, checkpoint from ensue.partitions where subscription = :subscription and first_slot = :first_slot
