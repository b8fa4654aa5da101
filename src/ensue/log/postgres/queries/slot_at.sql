-- How far a subscription is with a key: the checkpoint of its part, or beyond it what had been done of its slot when the
-- parts were cut anew; where the key is parked, and what comes next; the types that it wants.
select greatest(p.checkpoint, (
        select max(cast(a ->> 2 as bigint)) from json_array_elements(p.ahead) a
        where cast(:slot as integer) between cast(a ->> 0 as integer) and cast(a ->> 1 as integer))),
    k.position, k.next_step, k.reason, s.types::text
from ensue.partitions p
join ensue.subscriptions s on s.name = p.subscription
left join ensue.parked k on k.subscription = p.subscription and k.key = :key
where p.subscription = :subscription and cast(:slot as integer) between p.first_slot and p.last_slot
