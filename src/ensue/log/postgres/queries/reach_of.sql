-- How far a subscription is: its slowest and its fastest part, and slot, how many keys it has set aside, and how many of these are
-- tried again within two seconds.
select min(checkpoint), max(greatest(checkpoint, (select max(cast(a ->> 2 as bigint)) from json_array_elements(ahead) a))),
    (select count(*) from ensue.parked k where k.subscription = :subscription),
    (select count(*) from ensue.parked k where k.subscription = :subscription and k.due_at <= clock_timestamp() + interval '2 seconds')
from ensue.partitions where subscription = :subscription having count(*) > 0
