-- Subscriptions: their checkpoints and leases, what is parked, who works, who did what.
create table ensue_subscriptions (
    name       text primary key,
    types      text not null,
    started_at integer not null,
    paused     integer not null default 0,
    created_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
)
-- next
-- A partition is a range of slots (hashes of keys, 0 to 65535), with its own checkpoint and lease.
create table ensue_partitions (
    subscription text not null references ensue_subscriptions (name) on delete cascade,
    first_slot   integer not null,
    last_slot    integer not null,
    checkpoint   integer not null,
    ahead        text not null default '[]',
    epoch        integer not null default 0,
    owner        text,
    leased_until text,
    moved_at     text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    held_since   text,                               -- null: it is not held
    held_until   text,                               -- the next try
    held_reason  text,
    primary key (subscription, first_slot),
    check (first_slot <= last_slot)
)
-- next
create table ensue_parked (
    subscription text not null references ensue_subscriptions (name) on delete cascade,
    key          text not null,
    slot         integer not null,
    position     integer not null,
    id           text not null,
    type         text not null,
    next_step    text not null check (next_step in ('retry', 'wait', 'skip', 'discard')),
    due_at       text,
    attempt      integer not null,
    reason       text not null,
    traceback    text,
    worker       text,
    data         text,
    until        integer,
    parked_at    text not null,
    tries_since  text not null,
    failed_at    text not null,
    revision     integer not null default 0,
    edited       integer not null default 0,
    primary key (subscription, key)
)
-- next
create index ensue_parked_due on ensue_parked (due_at) where due_at is not null
-- next
create table ensue_workers (
    id            text primary key,
    host          text not null,
    pid           integer not null,
    subscriptions text not null,
    started_at    text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    seen_at       text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
)
-- next
create table ensue_audit (
    number       integer primary key autoincrement,
    at           text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    actor        text not null,
    action       text not null,
    subscription text,
    key          text,
    event_id     text,
    reason       text not null,
    detail       text
)
