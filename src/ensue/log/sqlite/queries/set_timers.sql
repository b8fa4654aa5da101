-- Set timers, given as [{owner, name, at, seconds, event}]: due so many seconds after a moment, or after now. One of the
-- same name is replaced.
insert into ensue_timers (owner, name, due_at, event)
select json_extract(value, '$.owner'), json_extract(value, '$.name'),
    strftime('%Y-%m-%dT%H:%M:%fZ', coalesce(json_extract(value, '$.at'), 'now'), json_extract(value, '$.seconds') || ' seconds'),
    json_extract(value, '$.event')
from json_each(:rows) where true
on conflict (owner, name) do update
set due_at = excluded.due_at, event = excluded.event, created_at = excluded.created_at
returning due_at
