-- Which events have moved which processes already, of those given as [[key, event id]].
select s.key, s.event_id
from json_each(:rows) as r
join ensue_process_steps s on s.process = :process and s.key = json_extract(r.value, '$[0]') and s.event_id = json_extract(r.value, '$[1]')
