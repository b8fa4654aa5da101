-- Forget what was written down so long ago.
delete from ensue.settled where settled_at < clock_timestamp() - make_interval(days => :days)
