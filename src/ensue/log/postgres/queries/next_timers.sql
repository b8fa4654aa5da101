-- The timers that wait, the next one first.
select owner, name, ensue.iso(due_at), event::text from ensue.timers order by due_at limit :limit
