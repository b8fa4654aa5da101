-- The log: one append-only table, and what recording needs. Autoincrement: positions are never used twice.
create table ensue_log (
    name       text primary key,
    created_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
)
-- next
create table ensue_events (
    position       integer primary key autoincrement,
    id             text not null,
    type           text not null,
    kind           text not null check (kind in ('domain', 'sourced', 'integration')),
    stream         text,
    version        integer,
    key            text,
    data           text not null,
    metadata       text,
    correlation_id text,
    causation_id   text,
    recorded_at    text not null,
    check ((stream is null) = (version is null)),
    check (kind <> 'sourced' or stream is not null)
)
-- next
create unique index ensue_events_id on ensue_events (id)
-- next
create unique index ensue_events_stream on ensue_events (stream, version) where stream is not null
-- next
create index ensue_events_type on ensue_events (type, position)
-- next
create index ensue_events_key on ensue_events (key, position) where key is not null
-- next
create index ensue_events_correlation on ensue_events (correlation_id, position) where correlation_id is not null
-- next
create index ensue_events_recorded_at on ensue_events (recorded_at)
-- next
create table ensue_deduplicated (
    key         text primary key,
    positions   text not null,
    ids         text not null,
    stream      text,
    version     integer,
    recorded_at text not null
) without rowid
-- next
-- Who still needs events: nothing behind the position of a hold is pruned.
create table ensue_holds (
    name       text primary key,
    position   integer not null,
    reason     text not null,
    created_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
)
-- next
-- What has been pruned: of each type in each run, how many events between which positions.
create table ensue_pruned (
    run             text not null,
    type            text not null,
    first_position  integer not null,
    last_position   integer not null,
    events          integer not null,
    recorded_before text not null,                   -- what was asked for
    actor           text not null,
    reason          text not null,
    pruned_at       text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    primary key (run, type)
)
