-- Set timers, given as [{owner, name, at, seconds, event}]: due so many seconds after a moment, or after now. One of the
-- same name is replaced.
insert into ensue.timers (owner, name, due_at, event)
select r.owner, r.name, coalesce(r.at, clock_timestamp()) + make_interval(secs => r.seconds), cast(r.event as json)
from json_to_recordset(cast(:rows as json)) as r (
    owner text, name text, at timestamptz, seconds double precision, event text)
on conflict (owner, name) do update
set due_at = excluded.due_at, event = excluded.event, created_at = excluded.created_at
returning ensue.iso(due_at)
