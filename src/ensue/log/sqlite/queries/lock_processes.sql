-- Processes that events are about, given as [key].
select key, version, status, ending, outcome, state, timers, late, undo, compensated, steps
from ensue_processes
where process = :process and key in (select value from json_each(:keys))
