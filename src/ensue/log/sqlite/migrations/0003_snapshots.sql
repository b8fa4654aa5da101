-- Snapshots: the state of an aggregate at a version, to shorten loading. They can be deleted at any time.
create table ensue_snapshots (
    stream    text primary key,
    version   integer not null,
    structure text not null,                         -- of the state; one of another structure is not read
    state     text not null,
    taken_at  text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
)
