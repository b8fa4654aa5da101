-- Parked keys that match, in the log's order, behind a place in it; ids is a JSON array. Data as bytes, as an event that is
-- not UTF-8 is parked too.
select k.subscription, k.key, k.position, k.id, k.type, k.next_step, k.due_at, k.attempt, k.reason, k.traceback,
    k.worker, cast(coalesce(k.data, (select e.data from ensue_events e where e.position = k.position)) as blob),
    k.parked_at, k.failed_at, k.data is not null
from ensue_parked k
where (k.position, k.subscription) > (:after, :behind)
    and (:subscription is null or k.subscription = :subscription)
    and (:type is null or k.type = :type)
    and (:fault is null or k.fault = :fault)
    and (:key is null or k.key = :key)
    and (:id is null or substr(k.id, 1, length(:id)) = :id or substr(k.id, -length(:id)) = :id)
    and (:ids is null or k.id in (select value from json_each(:ids)))
    and (:reason is null or instr(lower(k.reason), lower(:reason)) > 0)
    and (:since is null or k.parked_at >= :since)
    and (:before is null or k.parked_at < :before)
    and (not :waiting or k.next_step = 'wait')
order by k.position, k.subscription limit :limit
