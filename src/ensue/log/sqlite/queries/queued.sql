-- How many events queue behind parked ones, given as [[subscription, key, position, slot]]. Two counts, for two indexes: by key,
-- and by stream where that is the key.
select x.subscription, x.key, (
    select count(*) from ensue_events e
    where e.key = x.key and e.position > x.position and e.position <= x.checkpoint
        and e.type in (select t.value from json_each(x.types) t)
) + (
    select count(*) from ensue_events e
    where e.stream = x.key and e.key is null and e.position > x.position and e.position <= x.checkpoint
        and e.type in (select t.value from json_each(x.types) t)
)
from (
    select s.name as subscription, s.types, json_extract(r.value, '$[1]') as key, json_extract(r.value, '$[2]') as position,
        (
            select max(p.checkpoint, coalesce((
                select max(json_extract(a.value, '$[2]')) from json_each(p.ahead) a
                where json_extract(r.value, '$[3]') between json_extract(a.value, '$[0]') and json_extract(a.value, '$[1]')), 0))
            from ensue_partitions p
            where p.subscription = s.name and json_extract(r.value, '$[3]') between p.first_slot and p.last_slot
        ) as checkpoint
    from json_each(:rows) r join ensue_subscriptions s on s.name = json_extract(r.value, '$[0]')
) as x
