-- Renew all leases of a worker; a lease that ran out is still its own while nobody else has taken it.
update ensue.partitions set leased_until = clock_timestamp() + make_interval(secs => cast(:seconds as double precision))
where owner = :worker
returning subscription, first_slot, last_slot, epoch
