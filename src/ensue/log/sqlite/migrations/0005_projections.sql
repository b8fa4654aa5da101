-- Projections: every time that one's tables were made from the log.
create table ensue_projections (
    name       text not null,
    number     integer not null,
    version    integer not null,                     -- of the code that builds it
    state      text not null check (state in ('live', 'building', 'kept')),
    by_hand    integer not null default 0,           -- built by ensue replay alone
    tables     text not null,
    home       text not null,                        -- empty: SQLite has no schemas
    created_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    live_since text,
    primary key (name, number)
) without rowid
-- next
create unique index ensue_projections_live on ensue_projections (name) where state = 'live'
