-- Which events have moved which processes already, of those given as [[key, event id]].
select s.key, s.event_id
from json_array_elements(cast(:rows as json)) as r
join ensue.process_steps s on s.process = :process and s.key = r.value ->> 0 and s.event_id = r.value ->> 1
