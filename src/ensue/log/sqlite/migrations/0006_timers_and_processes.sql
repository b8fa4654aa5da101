-- Timers: events that will be recorded when their time has come.
create table ensue_timers (
    owner      text not null,                        -- the process that has set it, as name/key; empty: the application
    name       text not null,                        -- by which it is replaced and cancelled; the event's id if it has none
    due_at     text not null,
    event      text not null,                        -- as it will be recorded, with its id
    created_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    primary key (owner, name)
) without rowid
-- next
create index ensue_timers_due_at on ensue_timers (due_at)
-- next
-- Schedules: up to which moment their ticks have been recorded.
create table ensue_schedules (
    name    text primary key,
    reached text not null
) without rowid
-- next
-- Processes: where each one stands.
create table ensue_processes (
    process     text not null,
    key         text not null,
    version     integer not null,                    -- of the code that it began with
    status      text not null check (status in ('running', 'done', 'compensated', 'cancelled')),
    outcome     text,                                -- in the words of who ended it
    state       text not null,
    timers      text not null,                       -- {name: id of the event}: those that it waits for
    late        text not null,                       -- ids of events whose timers had fired when they were cancelled
    undo        text not null,                       -- [{type, data}]: what compensates for what it has done so far
    compensated integer not null,
    steps       integer not null,                    -- how many events have moved it
    started_at  text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    moved_at    text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    primary key (process, key)
) without rowid
-- next
create index ensue_processes_running on ensue_processes (process, started_at) where status = 'running'
-- next
create table ensue_process_steps (
    process  text not null,
    key      text not null,
    event_id text not null,
    number   integer not null,
    type     text not null,
    did      text not null,                          -- what the step recorded, set and cancelled
    at       text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    primary key (process, key, event_id),
    foreign key (process, key) references ensue_processes on delete cascade
) without rowid
