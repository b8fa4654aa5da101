-- Cancel timers, given as [[owner, name]]; return those that had not fired.
delete from ensue_timers
where (owner, name) in (select json_extract(value, '$[0]'), json_extract(value, '$[1]') from json_each(:rows))
returning owner, name
