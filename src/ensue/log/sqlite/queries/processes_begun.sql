-- Processes of a name and a status, those that began last first, before a place in that order.
select process, key, version, status, outcome, state, undo, steps, started_at, moved_at
from ensue_processes
where process = :process and status = :status and ending is null
    and (started_at, key) < (strftime('%Y-%m-%dT%H:%M:%fZ', :before), :behind)
order by started_at desc, key desc limit :limit
