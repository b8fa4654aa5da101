select 1 from ensue_deduplicated where key = :key
