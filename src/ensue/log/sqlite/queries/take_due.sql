-- Take timers that are due.
delete from ensue_timers
where (owner, name) in (
    select owner, name from ensue_timers
    where due_at <= strftime('%Y-%m-%dT%H:%M:%fZ', 'now') order by due_at limit :limit)
returning due_at, event, owner, name
