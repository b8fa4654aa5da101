-- What has moved a process, in order.
select number, event_id, type, did, at
from ensue_process_steps where process = :process and key = :key order by number
