-- Cancel timers, given as [[owner, name]]; return those that had not fired. Waits for a worker that is just firing one.
delete from ensue.timers
where (owner, name) in (select value ->> 0, value ->> 1 from json_array_elements(cast(:rows as json)))
returning owner, name
