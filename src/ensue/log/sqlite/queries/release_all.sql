update ensue_partitions set owner = null, leased_until = null where owner = :worker
