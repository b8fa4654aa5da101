-- Processes that match, those that moved last first.
select process, key, version, case when ending is null then status else 'compensating' end, outcome,
    state::text, undo::text, steps, ensue.iso(started_at), ensue.iso(moved_at)
from ensue.processes
where (cast(:process as text) is null or process = cast(:process as text))
    and (cast(:key as text) is null or key = cast(:key as text))
    and (cast(:status as text) is null
        or case when ending is null then status else 'compensating' end = cast(:status as text))
order by moved_at desc, process, key limit :limit
