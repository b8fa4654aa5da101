-- What prune.sql would do with the events of a type up to a position: how many it would delete, how many it would keep
-- because they are parked or queue, or because they are the last of their stream, and where the first kind lies.
with parked as (
    select k.key, min(k.position) as position
    from ensue_parked k join ensue_subscriptions s on s.name = k.subscription
    where k.type = :type or :type in (select value from json_each(s.types))
    group by k.key
),
candidates as (
    select e.position, coalesce(k.position <= e.position, false) as waits,
        e.stream is not null
            and e.version = (select max(l.version) from ensue_events l where l.stream = e.stream) as newest
    from ensue_events e
    left join parked k on k.key = coalesce(nullif(e.key, ''), nullif(e.stream, ''), e.id)
    where e.type = :type and e.position <= :until and e.kind <> 'sourced'
)
select count(*) filter (where not waits and not newest), count(*) filter (where waits),
    count(*) filter (where newest and not waits), min(position) filter (where not waits and not newest),
    max(position) filter (where not waits and not newest)
from candidates
