-- Processes that events are about, given as [key], which stay as they are until the end of the transaction.
select key, version, status, ending, outcome, state::text, timers::text, late::text, undo::text, compensated, steps
from ensue.processes
where process = :process and key in (select json_array_elements_text(cast(:keys as json)))
order by key for update
