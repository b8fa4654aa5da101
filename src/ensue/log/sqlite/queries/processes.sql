-- Processes that match, those that moved last first.
select process, key, version, status, outcome, state, undo, steps, started_at, moved_at
from ensue_processes
where (:process is null or process = :process) and (:key is null or key = :key)
    and (:status is null or status = :status)
order by moved_at desc, process, key limit :limit
