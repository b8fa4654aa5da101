select epoch, checkpoint from ensue_partitions where subscription = :subscription and first_slot = :first_slot
