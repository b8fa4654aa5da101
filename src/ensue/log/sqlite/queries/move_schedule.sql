-- Note that a tick is recorded, in that transaction; finds nothing if another worker has been here.
update ensue_schedules set reached = :tick where name = :name and reached = :before
returning name
