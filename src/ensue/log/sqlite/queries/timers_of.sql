-- The timers of an owner that wait, the next one first.
select name, due_at, event from ensue_timers where owner = :owner order by due_at, name
