-- How far a subscription is in all its parts.
select min(checkpoint) from ensue.partitions where subscription = :subscription having count(*) > 0
