-- Delete the events of a type between two positions that nobody needs: none that is event-sourced, none that is parked
-- or queues behind one that is, and not the last one of a stream, which tells its version.
with parked as (
    select k.key, min(k.position) as position
    from ensue_parked k join ensue_subscriptions s on s.name = k.subscription
    where k.type = :type or :type in (select value from json_each(s.types))
    group by k.key
)
delete from ensue_events
where position in (
    select e.position from ensue_events e
    left join parked k on k.key = coalesce(nullif(e.key, ''), nullif(e.stream, ''), e.id)
    where e.type = :type and e.position > :after and e.position <= :until and e.kind <> 'sourced'
        and (k.position is null or k.position > e.position)
        and (e.stream is null or e.version < (select max(l.version) from ensue_events l where l.stream = e.stream))
)
returning position
