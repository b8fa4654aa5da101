-- Take timers that are due, but for those that another worker is just taking; the time of the statement, because an
-- index is not searched for what may change meanwhile.
with due as (
    select owner, name from ensue.timers
    where due_at <= statement_timestamp() order by due_at limit :limit for update skip locked
)
delete from ensue.timers t using due where t.owner = due.owner and t.name = due.name
returning ensue.iso(t.due_at), t.event::text, t.owner, t.name
