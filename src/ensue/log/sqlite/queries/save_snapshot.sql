-- Keep a snapshot, unless a newer one of the same structure is there.
insert into ensue_snapshots (stream, version, structure, state) values (:stream, :version, :structure, :state)
on conflict (stream) do update
set version = excluded.version, structure = excluded.structure, state = excluded.state, taken_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now')
where ensue_snapshots.structure <> excluded.structure or ensue_snapshots.version < excluded.version
