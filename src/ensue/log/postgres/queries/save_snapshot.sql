-- Keep a snapshot, unless a newer one of the same structure is there.
insert into ensue.snapshots (stream, version, structure, state) values (:stream, :version, :structure, cast(cast(:state as text) as json))
on conflict (stream) do update
set version = excluded.version, structure = excluded.structure, state = excluded.state, taken_at = clock_timestamp()
where ensue.snapshots.structure <> excluded.structure or ensue.snapshots.version < excluded.version
