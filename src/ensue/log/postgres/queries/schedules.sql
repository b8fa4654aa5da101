-- Up to where the ticks of schedules are recorded, and what time it is.
select s.name, ensue.iso(s.reached), ensue.iso(clock_timestamp())
from ensue.schedules s where s.name in (select json_array_elements_text(cast(:names as json)))
