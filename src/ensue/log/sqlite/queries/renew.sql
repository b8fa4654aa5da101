-- Renew all leases of a worker; a lease that ran out is still its own while nobody else has taken it.
update ensue_partitions set leased_until = strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '+' || :seconds || ' seconds')
where owner = :worker
returning subscription, first_slot, last_slot, epoch
