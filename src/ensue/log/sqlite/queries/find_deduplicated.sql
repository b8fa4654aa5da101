select positions, ids, version, recorded_at, stream from ensue_deduplicated where key = :key
