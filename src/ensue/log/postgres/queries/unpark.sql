-- Keys behind which nothing waits any more; fenced like park.sql. A decision that a person has taken meanwhile keeps its
-- row only if there is something left to do for it: it has edited the event, or asked for one that had been given up.
delete from ensue.parked k
using json_to_recordset(cast(:rows as json)) as x (
    subscription text, key text, position bigint, revision bigint, handled boolean, epoch bigint),
    ensue.partitions p
where k.subscription = x.subscription and k.key = x.key
    and (k.revision = x.revision or (
        k.position <= x.position and k.edited <= x.revision and (x.handled or k.next_step <> 'retry')))
    and p.subscription = x.subscription and k.slot between p.first_slot and p.last_slot and p.epoch = x.epoch
