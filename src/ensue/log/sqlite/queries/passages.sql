-- Every subscription that wants events of a type, with the partition and the parked key that one of them falls under.
select s.name, s.paused, s.started_at, p.checkpoint, p.ahead, k.position, k.next_step, k.due_at, k.attempt, k.reason
from ensue_subscriptions s
join ensue_partitions p on p.subscription = s.name and :slot between p.first_slot and p.last_slot
left join ensue_parked k on k.subscription = s.name and k.key = :key
where :type in (select value from json_each(s.types))
order by s.name
