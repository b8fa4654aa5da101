-- Per subscription, the latest failure of what is parked now; attempt 0 is one that has not failed.
select distinct on (subscription) subscription, position, ensue.iso(failed_at), reason
from ensue.parked where attempt > 0 order by subscription, failed_at desc, position desc
