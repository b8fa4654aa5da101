-- Processes that match, those that moved last first.
select process, key, version, case when ending is null then status else 'compensating' end, outcome,
    state, undo, steps, started_at, moved_at
from ensue_processes
where (:process is null or process = :process) and (:key is null or key = :key)
    and (:status is null or case when ending is null then status else 'compensating' end = :status)
order by moved_at desc, process, key limit :limit
