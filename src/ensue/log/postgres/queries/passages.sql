-- Every subscription that wants events of a type, with the partition and the parked key that one of them falls under.
select s.name, s.paused, s.started_at, p.checkpoint, p.ahead::text, k.position, k.next_step, ensue.iso(k.due_at),
    k.attempt, k.reason
from ensue.subscriptions s
join ensue.partitions p on p.subscription = s.name and cast(:slot as integer) between p.first_slot and p.last_slot
left join ensue.parked k on k.subscription = s.name and k.key = cast(:key as text)
where cast(:type as text) in (select json_array_elements_text(s.types))
order by s.name
