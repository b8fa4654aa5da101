-- When an event was handled, without a write for it: where the checkpoints stood in the past, and what became of those
-- that had failed.
-- moved_by: the worker that wrote the checkpoint last
alter table ensue_partitions add column moved_by text
-- next
-- Where a checkpoint stood: a few rings for each partition, in which the oldest place is written anew. It stays small.
create table ensue_marks (
    subscription text not null references ensue_subscriptions (name) on delete cascade,
    first_slot   integer not null,
    seconds      integer not null,                   -- from one place of the ring to the next
    place        integer not null,
    turn         integer not null,                    -- it grows whenever the ring comes to another place
    last_slot    integer not null,
    checkpoint   integer not null,
    moved_at     text not null,
    moved_by     text,
    primary key (subscription, first_slot, seconds, place)
)
-- next
create index ensue_marks_checkpoint on ensue_marks (subscription, checkpoint)
-- next
-- Keys that were parked and went on: which events of them are done since.
create table ensue_settled (
    subscription text not null references ensue_subscriptions (name) on delete cascade,
    key          text not null,
    position     integer not null,                   -- from this event
    until        integer not null,                   -- up to this one
    given_up     integer,                            -- those up to here were skipped or discarded; null: none
    failures     integer not null,                   -- attempts at the first of them that had failed
    parked_at    text not null,
    settled_at   text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    worker       text,
    primary key (subscription, key, position)
)
-- next
create index ensue_settled_at on ensue_settled (settled_at)
