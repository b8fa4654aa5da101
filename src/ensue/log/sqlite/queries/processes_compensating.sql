-- Processes of a name that have ended and undo their steps, those that began last first, before a place in that order.
select process, key, version, 'compensating', outcome, state, undo, steps, started_at, moved_at
from ensue_processes
where process = :process and ending is not null
    and (started_at, key) < (strftime('%Y-%m-%dT%H:%M:%fZ', :before), :behind)
order by started_at desc, key desc limit :limit
