-- How many events queue behind parked ones, given as [[subscription, key, position, slot]]. Two counts, for two indexes: by key,
-- and by stream where that is the key.
select x.subscription, x.key, (
    select count(*) from ensue.events e
    where (hashtext(e.key) & 1023) = (hashtext(x.key) & 1023) and hashtext(e.key) = hashtext(x.key) and e.key = x.key
        and e.position > x.position and e.position <= x.checkpoint
        and e.type in (select json_array_elements_text(x.types))
) + (
    select count(*) from ensue.events e
    where e.stream = x.key and e.key is null and e.position > x.position and e.position <= x.checkpoint
        and e.type in (select json_array_elements_text(x.types))
)
from (
    select s.name as subscription, s.types, value ->> 1 as key, cast(value ->> 2 as bigint) as position,
        (
            select greatest(p.checkpoint, (
                select max(cast(a ->> 2 as bigint)) from json_array_elements(p.ahead) a
                where cast(value ->> 3 as integer) between cast(a ->> 0 as integer) and cast(a ->> 1 as integer)))
            from ensue.partitions p
            where p.subscription = s.name and cast(value ->> 3 as integer) between p.first_slot and p.last_slot
        ) as checkpoint
    from json_array_elements(cast(:rows as json)) join ensue.subscriptions s on s.name = value ->> 0
) as x
