-- What is set aside of the keys of these events (ids, a JSON array), at or before them.
select distinct p.key, p.position, p.reason
from ensue_events e join ensue_parked p on p.key = coalesce(e.key, e.stream, e.id) and p.position <= e.position
where p.subscription = :subscription and e.id in (select value from json_each(:ids))
order by p.position
