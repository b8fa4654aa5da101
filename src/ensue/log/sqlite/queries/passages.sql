-- Every subscription that wants events of a type, with the partition and the parked key that one of them falls under, and
-- when it was written down that it is done: of its key since that went on, or by the first checkpoint that is known.
select s.name, s.paused, s.started_at, p.checkpoint, p.ahead, k.position, k.next_step, k.due_at,
    k.attempt, k.failed_at, k.worker,
    (select json_array(d.settled_at, d.worker, null, d.failures, d.parked_at,
        json(case when coalesce(d.given_up, 0) >= :position then 'true' else 'false' end))
    from ensue_settled d
    where d.subscription = s.name and d.key = :key and d.position <= :position and d.until >= :position
    order by d.settled_at desc limit 1),
    coalesce(
        (select json_array(m.moved_at, m.moved_by, m.checkpoint)
        from ensue_marks m
        where m.subscription = s.name and m.checkpoint >= :position and :slot between m.first_slot and m.last_slot
        order by m.moved_at limit 1),
        case when p.checkpoint >= :position then json_array(p.moved_at, p.moved_by, p.checkpoint) end),
    k.reason
from ensue_subscriptions s
join ensue_partitions p on p.subscription = s.name and :slot between p.first_slot and p.last_slot
left join ensue_parked k on k.subscription = s.name and k.key = :key
where :type in (select value from json_each(s.types))
order by s.name
