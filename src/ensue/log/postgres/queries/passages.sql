-- Every subscription that wants events of a type, with the partition and the parked key that one of them falls under, and
-- when it was written down that it is done: of its key since that went on, or by the first checkpoint that is known.
select s.name, s.paused, s.started_at, p.checkpoint, p.ahead::text, k.position, k.next_step, ensue.iso(k.due_at),
    k.attempt, ensue.iso(k.failed_at), k.worker,
    (select json_build_array(ensue.iso(d.settled_at), d.worker, null, d.failures, ensue.iso(d.parked_at),
        coalesce(d.given_up, 0) >= :position)::text
    from ensue.settled d
    where d.subscription = s.name and d.key = cast(:key as text) and d.position <= :position and d.until >= :position
    order by d.settled_at desc limit 1),
    coalesce(
        (select json_build_array(ensue.iso(m.moved_at), m.moved_by, m.checkpoint)::text
        from ensue.marks m
        where m.subscription = s.name and m.checkpoint >= :position
            and cast(:slot as integer) between m.first_slot and m.last_slot
        order by m.moved_at limit 1),
        case when p.checkpoint >= :position
            then json_build_array(ensue.iso(p.moved_at), p.moved_by, p.checkpoint)::text end),
    k.reason
from ensue.subscriptions s
join ensue.partitions p on p.subscription = s.name and cast(:slot as integer) between p.first_slot and p.last_slot
left join ensue.parked k on k.subscription = s.name and k.key = cast(:key as text)
where cast(:type as text) in (select json_array_elements_text(s.types))
order by s.name
