-- `dropped`: the highest number of the builds that were dropped. No number is used twice: the audit would speak of two
-- builds under one.
alter table ensue.projections add column dropped integer not null default 0
-- next
update ensue.projections p set dropped = coalesce((
    select max(cast(substr(a.action, 12) as integer)) from ensue.audit a
    where a.action ~ '^drop build [0-9]+$' and a.subscription in (p.name, p.name || ':' || substr(a.action, 12))), 0)
-- next
-- In which status a process ends when what it undoes is done; null: it is not ending.
alter table ensue.processes add column ending text check (ending in ('compensated', 'cancelled'))
-- next
create index processes_ending on ensue.processes (process, started_at, key) where ending is not null
