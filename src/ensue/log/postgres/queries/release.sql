-- A worker gives up one lease.
update ensue.partitions set owner = null, leased_until = null
where subscription = :subscription and first_slot = :first_slot and owner = :worker
