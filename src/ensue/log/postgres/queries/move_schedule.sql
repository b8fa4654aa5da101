-- Note that a tick is recorded, in that transaction; finds nothing if another worker has been here.
update ensue.schedules set reached = cast(cast(:tick as text) as timestamptz)
where name = :name and reached = cast(cast(:before as text) as timestamptz)
returning name
