-- How far a subscription is: its slowest and its fastest part, and slot, how many keys it has set aside, and how many of these are
-- tried again within two seconds.
select min(checkpoint),
    max(max(checkpoint, coalesce((select max(json_extract(a.value, '$[2]')) from json_each(ahead) a), 0))),
    (select count(*) from ensue_parked k where k.subscription = :subscription),
    (select count(*) from ensue_parked k where k.subscription = :subscription and k.due_at <= strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '+2 seconds'))
from ensue_partitions where subscription = :subscription having count(*) > 0
