-- Up to where the ticks of schedules are recorded, and what time it is.
select s.name, s.reached, strftime('%Y-%m-%dT%H:%M:%fZ', 'now')
from ensue_schedules s where s.name in (select value from json_each(:names))
