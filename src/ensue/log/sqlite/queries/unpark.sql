-- Keys behind which nothing waits any more; fenced like park.sql. A decision that a person has taken meanwhile keeps its
-- row only if there is something left to do for it: it has edited the event, or asked for one that had been given up.
delete from ensue_parked where rowid in (
    select k.rowid from json_each(:rows) x
    join ensue_parked k on k.subscription = json_extract(x.value, '$.subscription')
        and k.key = json_extract(x.value, '$.key')
        and (k.revision = json_extract(x.value, '$.revision') or (
            k.position <= json_extract(x.value, '$.position') and k.edited <= json_extract(x.value, '$.revision')
            and (json_extract(x.value, '$.handled') or k.next_step <> 'retry')))
    join ensue_partitions p on p.subscription = k.subscription and k.slot between p.first_slot and p.last_slot
        and p.epoch = json_extract(x.value, '$.epoch'))
