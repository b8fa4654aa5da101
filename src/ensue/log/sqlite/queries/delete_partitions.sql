delete from ensue_partitions where subscription = :subscription
