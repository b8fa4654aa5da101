-- Processes of a name that have ended and undo their steps, those that began last first, before a place in that order.
select process, key, version, 'compensating', outcome, state::text, undo::text, steps, ensue.iso(started_at),
    ensue.iso(moved_at)
from ensue.processes
where process = :process and ending is not null
    and (started_at, key) < (cast(cast(:before as text) as timestamptz), cast(:behind as text))
order by started_at desc, key desc limit :limit
