-- Write down which events have moved which processes, given as [{key, event_id, number, type, did}].
insert into ensue.process_steps (process, key, event_id, number, type, did)
select :process, r.key, r.event_id, r.number, r.type, cast(r.did as json)
from json_to_recordset(cast(:rows as json)) as r (key text, event_id text, number integer, type text, did text)
