-- Write down where processes stand now.
update ensue.processes p
set status = r.status, ending = r.ending, outcome = r.outcome, state = cast(r.state as json), timers = cast(r.timers as json),
    late = cast(r.late as json), undo = cast(r.undo as json), compensated = r.compensated, steps = r.steps,
    moved_at = clock_timestamp()
from json_to_recordset(cast(:rows as json)) as r (
    key text, version integer, status text, ending text, outcome text, state text, timers text, late text, undo text,
    compensated boolean, steps integer)
where p.process = :process and p.key = r.key
