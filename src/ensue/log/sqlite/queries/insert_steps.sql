-- Write down which events have moved which processes, given as [{key, event_id, number, type, did}].
insert into ensue_process_steps (process, key, event_id, number, type, did)
select :process, json_extract(value, '$.key'), json_extract(value, '$.event_id'), json_extract(value, '$.number'), json_extract(value, '$.type'), json_extract(value, '$.did')
from json_each(:rows)
