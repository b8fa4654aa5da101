-- The next keys, in their order, of which there are events of these types (a JSON array) between two positions.
select distinct coalesce(key, stream, id::text) as k from ensue.events
where position > :after and position <= :until and type in (select json_array_elements_text(cast(:types as json)))
order by k
