-- Of these keys (a JSON array), those for which something of a subscription still waits: parked, or recorded behind its
-- checkpoints. It begins with what waits, which is little.
select p.key from ensue_parked p
where p.subscription = :subscription and p.key in (select value from json_each(:keys))
union
select e.key from ensue_events e
where e.type = :type
    and e.position > (select min(p.checkpoint) from ensue_partitions p where p.subscription = :subscription)
    and +e.key in (select value from json_each(:keys))
