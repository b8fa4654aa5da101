-- Workers that have not been seen for long are dead; their leases have run out by themselves.
delete from ensue.workers where seen_at < clock_timestamp() - make_interval(secs => cast(:seconds as double precision))
