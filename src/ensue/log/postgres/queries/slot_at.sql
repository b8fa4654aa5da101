-- How far a subscription is with a key: the checkpoint of its part, and the event of the key that has failed.
select p.checkpoint, (select k.position from ensue.parked k where k.subscription = p.subscription and k.key = :key)
from ensue.partitions p
where p.subscription = :subscription and cast(:slot as integer) between p.first_slot and p.last_slot
