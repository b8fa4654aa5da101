insert into ensue_deduplicated (key, positions, ids, stream, version, recorded_at)
values (:key, :positions, :ids, :stream, :version, :recorded_at)
