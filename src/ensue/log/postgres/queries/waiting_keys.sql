-- Of these keys (a JSON array), those for which something of a subscription still waits: parked, or recorded behind its
-- checkpoints. It begins with what waits, which is little.
select p.key from ensue.parked p
where p.subscription = :subscription and p.key in (select json_array_elements_text(cast(:keys as json)))
union
select e.key from ensue.events e
where e.type = :type
    and e.position > (select min(p.checkpoint) from ensue.partitions p where p.subscription = :subscription)
    and e.key in (select json_array_elements_text(cast(:keys as json)))
