-- In how many seconds the next timer is due; nothing if there is none.
select cast(extract(epoch from due_at - clock_timestamp()) as double precision)
from ensue.timers order by due_at limit 1
