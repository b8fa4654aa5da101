-- Set a hold, or move it.
insert into ensue.holds (name, position, reason) values (:name, :position, :reason)
on conflict (name) do update set position = excluded.position, reason = excluded.reason
