-- When an event was handled, without a write for it: where the checkpoints stood in the past, and what became of those
-- that had failed.
alter table ensue.partitions add column moved_by text -- the worker that wrote the checkpoint last
-- next
-- Where a checkpoint stood: a few rings for each partition, in which the oldest place is written anew. It stays small.
create table ensue.marks (
    subscription text not null references ensue.subscriptions (name) on delete cascade,
    first_slot   integer not null,
    seconds      integer not null,                   -- from one place of the ring to the next
    place        integer not null,
    turn         bigint not null,                     -- it grows whenever the ring comes to another place
    last_slot    integer not null,
    checkpoint   bigint not null,
    moved_at     timestamptz not null,
    moved_by     text,
    primary key (subscription, first_slot, seconds, place)
) with (fillfactor = 70)
-- next
create index marks_checkpoint on ensue.marks (subscription, checkpoint)
-- next
-- Keys that were parked and went on: which events of them are done since.
create table ensue.settled (
    subscription text not null references ensue.subscriptions (name) on delete cascade,
    key          text not null,
    position     bigint not null,                    -- from this event
    until        bigint not null,                    -- up to this one
    given_up     bigint,                             -- those up to here were skipped or discarded; null: none
    failures     integer not null,                   -- attempts at the first of them that had failed
    parked_at    timestamptz not null,
    settled_at   timestamptz not null default clock_timestamp(),
    worker       text,
    primary key (subscription, key, position)
)
-- next
create index settled_at on ensue.settled (settled_at)
