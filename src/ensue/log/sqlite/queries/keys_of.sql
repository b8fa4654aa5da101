-- The next keys, in their order, of which there are events of these types (a JSON array) between two positions.
select distinct coalesce(key, stream, id) as k from ensue_events
where position > :after and position <= :until and type in (select value from json_each(:types))
order by k
