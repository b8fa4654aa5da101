-- The log: one append-only table, the sequence of its positions, and what recording needs.
create table ensue.log (
    name       text primary key,                     -- the application to which this log belongs
    created_at timestamptz not null default clock_timestamp()
)
-- next
-- Starts below 1 and is called once, so that its last value is always below every position still to come.
create sequence ensue.positions as bigint minvalue 0 start 0 cache 1
-- next
select nextval('ensue.positions')
-- next
create table ensue.events (
    position       bigint primary key,
    id             uuid not null,
    type           text not null,
    kind           text not null check (kind in ('domain', 'sourced', 'integration')),
    stream         text,
    version        bigint,
    key            text,
    data           json not null,                    -- json, not jsonb: kept to the letter
    metadata       json,                             -- actor, traceparent, headers
    correlation_id text,
    causation_id   text,
    recorded_at    timestamptz not null,
    check ((stream is null) = (version is null)),
    check (kind <> 'sourced' or stream is not null),
    constraint a_key_has_at_most_400_characters check (length(key) <= 400),
    constraint a_stream_has_at_most_400_characters check (length(stream) <= 400)
)
-- next
create unique index events_id on ensue.events (id)
-- next
create unique index events_stream on ensue.events (stream, version) where stream is not null
-- next
create index events_type on ensue.events (type, position)
-- next
-- Keys come in no order: an index sorted by them would be written to all over, in a large log from the disk. So it has
-- 1,024 buckets that grow at their ends; who looks for a key reads its bucket, by hash, from a position on.
create index events_key on ensue.events ((hashtext(key) & 1023), position, hashtext(key)) where key is not null
-- next
create index events_correlation on ensue.events ((hashtext(correlation_id) & 1023), position, hashtext(correlation_id))
    where correlation_id is not null
-- next
create index events_recorded_at on ensue.events using brin (recorded_at) with (pages_per_range = 32)
-- next
create table ensue.deduplicated (
    key     text primary key constraint a_dedupe_key_has_at_most_400_characters check (length(key) <= 400),
    receipt text                                     -- as the recording function returned it
)
-- next
-- Until when, in seconds since 1970, some reader sleeps and wants a call. A sequence, because it is seen at once, by
-- transactions with an old snapshot too, and read without a query.
create sequence ensue.sleeping as bigint minvalue 0 start 0 cache 1
-- next
-- Who still needs events: nothing behind the position of a hold is pruned.
create table ensue.holds (
    name       text primary key,
    position   bigint not null,
    reason     text not null,
    created_at timestamptz not null default clock_timestamp()
)
-- next
-- What has been pruned: of each type in each run, how many events between which positions.
create table ensue.pruned (
    run             text not null,
    type            text not null,
    first_position  bigint not null,
    last_position   bigint not null,
    events          bigint not null,
    recorded_before timestamptz not null,            -- what was asked for
    actor           text not null,
    reason          text not null,
    pruned_at       timestamptz not null default clock_timestamp(),
    primary key (run, type)
)
