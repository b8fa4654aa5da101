-- Timers: events that will be recorded when their time has come.
create table ensue.timers (
    owner      text not null,                        -- the process that has set it, as name/key; empty: the application
    name       text not null,                        -- by which it is replaced and cancelled; the event's id if it has none
    due_at     timestamptz not null,
    event      json not null,                        -- as the recording function takes it, with the id that it will have
    created_at timestamptz not null default clock_timestamp(),
    primary key (owner, name)
)
-- next
create index timers_due_at on ensue.timers (due_at)
-- next
-- Schedules: up to which moment their ticks have been recorded.
create table ensue.schedules (
    name    text primary key,
    reached timestamptz not null
)
-- next
-- Processes: where each one stands.
create table ensue.processes (
    process     text not null,
    key         text not null,
    version     integer not null,                    -- of the code that it began with
    status      text not null check (status in ('running', 'done', 'compensated', 'cancelled')),
    outcome     text,                                -- in the words of who ended it
    state       json not null,
    timers      json not null,                       -- {name: id of the event}: those that it waits for
    late        json not null,                       -- ids of events whose timers had fired when they were cancelled
    undo        json not null,                       -- [{type, data}]: what compensates for what it has done so far
    compensated boolean not null,
    steps       integer not null,                    -- how many events have moved it
    started_at  timestamptz not null default clock_timestamp(),
    moved_at    timestamptz not null default clock_timestamp(),
    primary key (process, key)
) with (fillfactor = 70)
-- next
create index processes_running on ensue.processes (process, started_at) where status = 'running'
-- next
create table ensue.process_steps (
    process  text not null,
    key      text not null,
    event_id text not null,
    number   integer not null,
    type     text not null,
    did      json not null,                          -- what the step recorded, set and cancelled
    at       timestamptz not null default clock_timestamp(),
    primary key (process, key, event_id),
    foreign key (process, key) references ensue.processes on delete cascade
)
