-- Subscriptions: their checkpoints and leases, what is parked, who works, who did what.
create table ensue.subscriptions (
    name       text primary key,
    types      json not null,
    started_at bigint not null,                      -- the position behind which it began
    paused     boolean not null default false,
    created_at timestamptz not null default clock_timestamp()
)
-- next
-- A partition is a range of slots (hashes of keys, 0 to 65535), with its own checkpoint and lease.
create table ensue.partitions (
    subscription text not null references ensue.subscriptions (name) on delete cascade,
    first_slot   integer not null,
    last_slot    integer not null,
    checkpoint   bigint not null,
    ahead        json not null default '[]',         -- [[first slot, last slot, position]]: done beyond the checkpoint
    epoch        bigint not null default 0,          -- grows with every change of owner: the fence
    owner        text,
    leased_until timestamptz,
    moved_at     timestamptz not null default clock_timestamp(),
    held_since   timestamptz,                        -- null: it is not held
    held_until   timestamptz,                        -- the next try
    held_reason  text,
    primary key (subscription, first_slot),
    check (first_slot <= last_slot)
) with (fillfactor = 70)
-- next
create table ensue.parked (
    subscription text not null references ensue.subscriptions (name) on delete cascade,
    key          text not null,
    slot         integer not null,
    position     bigint not null,                    -- the event that failed; later ones of the key queue behind it
    id           text not null,
    type         text not null,
    next_step    text not null check (next_step in ('retry', 'wait', 'skip', 'discard')),
    due_at       timestamptz,                        -- null: waits for a person
    attempt      integer not null,
    reason       text not null,
    traceback    text,
    worker       text,
    data         text,                               -- the event as a person has edited it
    until        bigint,                             -- discard: the last position that a person has decided on
    parked_at    timestamptz not null,
    tries_since  timestamptz not null,               -- the first failure since a person last said retry
    failed_at    timestamptz not null,
    revision     bigint not null default 0,          -- grows when a person decides: the worker then looks again
    edited       bigint not null default 0,          -- the revision that came of the last edit
    primary key (subscription, key)
)
-- next
create index parked_due on ensue.parked (due_at) where due_at is not null
-- next
create table ensue.workers (
    id            text primary key,
    host          text not null,
    pid           integer not null,
    subscriptions json not null,
    started_at    timestamptz not null default clock_timestamp(),
    seen_at       timestamptz not null default clock_timestamp()
)
-- next
create table ensue.audit (
    number       bigint generated always as identity primary key,
    at           timestamptz not null default clock_timestamp(),
    actor        text not null,
    action       text not null,
    subscription text,
    key          text,
    event_id     text,
    reason       text not null,
    detail       json
)
