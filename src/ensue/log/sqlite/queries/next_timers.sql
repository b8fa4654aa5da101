-- The timers that wait, the next one first.
select owner, name, due_at, event from ensue_timers order by due_at limit :limit
