-- How far a subscription is with a key: the checkpoint of its part, or beyond it what had been done of its slot when the
-- parts were cut anew; where the key is parked, and what comes next; the types that it wants.
select max(p.checkpoint, coalesce((
        select max(json_extract(a.value, '$[2]')) from json_each(p.ahead) a
        where :slot between json_extract(a.value, '$[0]') and json_extract(a.value, '$[1]')), 0)),
    k.position, k.next_step, k.reason, s.types
from ensue_partitions p
join ensue_subscriptions s on s.name = p.subscription
left join ensue_parked k on k.subscription = p.subscription and k.key = :key
where p.subscription = :subscription and :slot between p.first_slot and p.last_slot
