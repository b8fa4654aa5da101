-- How far a subscription is in all its parts.
select min(checkpoint) from ensue_partitions where subscription = :subscription having count(*) > 0
