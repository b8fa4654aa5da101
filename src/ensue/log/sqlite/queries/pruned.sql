-- What has been pruned behind a position.
select run, type, first_position, last_position, events, recorded_before, actor, reason, pruned_at
from ensue_pruned where last_position > :after order by first_position, type, run
