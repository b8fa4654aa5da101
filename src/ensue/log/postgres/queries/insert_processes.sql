-- Begin processes; return those that another partition has not begun meanwhile.
insert into ensue.processes (
    process, key, version, status, ending, outcome, state, timers, late, undo, compensated, steps)
select :process, r.key, r.version, r.status, r.ending, r.outcome, cast(r.state as json), cast(r.timers as json),
    cast(r.late as json), cast(r.undo as json), r.compensated, r.steps
from json_to_recordset(cast(:rows as json)) as r (
    key text, version integer, status text, ending text, outcome text, state text, timers text, late text, undo text,
    compensated boolean, steps integer)
order by r.key
on conflict do nothing
returning key
