-- Write down where processes stand now.
update ensue_processes as p
set status = json_extract(r.value, '$.status'), ending = json_extract(r.value, '$.ending'), outcome = json_extract(r.value, '$.outcome'), state = json_extract(r.value, '$.state'),
    timers = json_extract(r.value, '$.timers'), late = json_extract(r.value, '$.late'), undo = json_extract(r.value, '$.undo'),
    compensated = json_extract(r.value, '$.compensated'), steps = json_extract(r.value, '$.steps'),
    moved_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now')
from json_each(:rows) as r
where p.process = :process and p.key = json_extract(r.value, '$.key')
