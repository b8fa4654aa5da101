select 1 from ensue.deduplicated where key = :key
