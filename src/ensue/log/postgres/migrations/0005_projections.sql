-- Projections: every time that one's tables were made from the log.
create table ensue.projections (
    name       text not null,
    number     integer not null,
    version    integer not null,                     -- of the code that builds it
    state      text not null check (state in ('live', 'building', 'kept')),
    by_hand    boolean not null default false,       -- built by ensue replay alone
    tables     json not null,
    home       text not null,                        -- the schema in which readers see its tables
    created_at timestamptz not null default clock_timestamp(),
    live_since timestamptz,
    primary key (name, number)
)
-- next
create unique index projections_live on ensue.projections (name) where state = 'live'
