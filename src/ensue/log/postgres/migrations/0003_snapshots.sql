-- Snapshots: the state of an aggregate at a version, to shorten loading. They can be deleted at any time.
create table ensue.snapshots (
    stream    text primary key,
    version   bigint not null,
    structure text not null,                         -- of the state; one of another structure is not read
    state     json not null,
    taken_at  timestamptz not null default clock_timestamp()
)
