-- What has moved a process, in order.
select number, event_id, type, did::text, ensue.iso(at)
from ensue.process_steps where process = :process and key = :key order by number
