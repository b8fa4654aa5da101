-- Parked keys that match, in the log's order, behind a place in it; ids is a JSON array.
select k.subscription, k.key, k.position, k.id, k.type, k.next_step, ensue.iso(k.due_at), k.attempt, k.reason, k.traceback,
    k.worker, coalesce(k.data, (select e.data::text from ensue.events e where e.position = k.position)),
    ensue.iso(k.parked_at), ensue.iso(k.failed_at), k.data is not null
from ensue.parked k
where (k.position, k.subscription) > (cast(:after as bigint), cast(:behind as text))
    and (cast(:subscription as text) is null or k.subscription = cast(:subscription as text))
    and (cast(:type as text) is null or k.type = cast(:type as text))
    and (cast(:fault as text) is null or k.fault = cast(:fault as text))
    and (cast(:key as text) is null or k.key = cast(:key as text))
    and (cast(:id as text) is null or starts_with(k.id, cast(:id as text))
        or right(k.id, length(cast(:id as text))) = cast(:id as text))
    and (cast(:ids as text) is null or k.id in (select json_array_elements_text(cast(:ids as json))))
    and (cast(:reason as text) is null or strpos(lower(k.reason), lower(cast(:reason as text))) > 0)
    and (cast(:since as text) is null or k.parked_at >= cast(cast(:since as text) as timestamptz))
    and (cast(:before as text) is null or k.parked_at < cast(cast(:before as text) as timestamptz))
    and (not cast(:waiting as boolean) or k.next_step = 'wait')
order by k.position, k.subscription limit :limit
