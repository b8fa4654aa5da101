-- Delete the events of a type between two positions that nobody needs: none that is event-sourced, none that is parked
-- or queues behind one that is, and not the last one of a stream, which tells its version.
with parked as (
    select k.key, min(k.position) as position
    from ensue.parked k join ensue.subscriptions s on s.name = k.subscription
    where k.type = cast(:type as text) or cast(:type as text) in (select json_array_elements_text(s.types))
    group by k.key
)
delete from ensue.events
where position in (
    select e.position from ensue.events e
    left join parked k on k.key = coalesce(nullif(e.key, ''), nullif(e.stream, ''), cast(e.id as text))
    where e.type = :type and e.position > :after and e.position <= :until and e.kind <> 'sourced'
        and (k.position is null or k.position > e.position)
        and (e.stream is null or e.version < (select max(l.version) from ensue.events l where l.stream = e.stream))
)
returning position
