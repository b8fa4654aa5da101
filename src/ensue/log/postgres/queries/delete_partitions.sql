delete from ensue.partitions where subscription = :subscription
