-- Begin processes.
insert into ensue_processes (
    process, key, version, status, ending, outcome, state, timers, late, undo, compensated, steps)
select :process, json_extract(value, '$.key'), json_extract(value, '$.version'), json_extract(value, '$.status'), json_extract(value, '$.ending'), json_extract(value, '$.outcome'), json_extract(value, '$.state'),
    json_extract(value, '$.timers'), json_extract(value, '$.late'), json_extract(value, '$.undo'), json_extract(value, '$.compensated'), json_extract(value, '$.steps')
from json_each(:rows) where true
on conflict do nothing
returning key
