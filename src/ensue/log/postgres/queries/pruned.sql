-- What has been pruned behind a position.
select run, type, first_position, last_position, events, ensue.iso(recorded_before), actor, reason, ensue.iso(pruned_at)
from ensue.pruned where last_position > :after order by first_position, type, run
