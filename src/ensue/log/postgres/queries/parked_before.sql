-- What is set aside of the keys of these events (ids, a JSON array), at or before them.
select distinct p.key, p.position, p.reason
from ensue.events e join ensue.parked p on p.key = coalesce(e.key, e.stream, e.id::text) and p.position <= e.position
where p.subscription = :subscription and e.id in (select cast(value as uuid) from json_array_elements_text(cast(:ids as json)))
order by p.position
