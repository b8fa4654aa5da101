-- `dropped`: the highest number of the builds that were dropped. No number is used twice: the audit would speak of two
-- builds under one.
alter table ensue_projections add column dropped integer not null default 0
-- next
update ensue_projections set dropped = coalesce((
    select max(cast(substr(a.action, 12) as integer)) from ensue_audit a
    where a.action glob 'drop build [0-9]*'
        and a.subscription in (ensue_projections.name, ensue_projections.name || ':' || substr(a.action, 12))), 0)
-- next
-- In which status a process ends when what it undoes is done; null: it is not ending.
alter table ensue_processes add column ending text check (ending in ('compensated', 'cancelled'))
-- next
create index ensue_processes_ending on ensue_processes (process, started_at, key) where ending is not null
