-- How far a subscription is: its slowest and its fastest part, and how many keys it has set aside.
select min(checkpoint), max(checkpoint), (select count(*) from ensue.parked k where k.subscription = :subscription)
from ensue.partitions where subscription = :subscription having count(*) > 0
