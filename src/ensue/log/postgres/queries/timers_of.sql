-- The timers of an owner that wait, the next one first.
select name, ensue.iso(due_at), event::text from ensue.timers where owner = :owner order by due_at, name
