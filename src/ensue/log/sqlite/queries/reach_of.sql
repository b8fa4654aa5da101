-- How far a subscription is: its slowest and its fastest part, and how many keys it has set aside.
select min(checkpoint), max(checkpoint), (select count(*) from ensue_parked k where k.subscription = :subscription)
from ensue_partitions where subscription = :subscription having count(*) > 0
