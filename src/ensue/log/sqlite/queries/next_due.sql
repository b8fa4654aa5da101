-- In how many seconds the next timer is due; nothing if there is none.
select (julianday(due_at) - julianday('now')) * 86400.0 from ensue_timers order by due_at limit 1
