-- The seal: what has been hashed of the log, and what was signed of it. One row tells how far it is.
create table ensue.seal (
    single   boolean primary key default true check (single),
    size     bigint not null,                        -- how many events have a leaf
    position bigint not null                         -- the last of them
)
-- next
-- Tiles of the Merkle tree, as in C2SP tlog-tiles: up to 256 hashes; on level 0 of events, above that of full tiles.
create table ensue.seal_tiles (
    level          smallint not null,
    number         bigint not null,
    hashes         bytea not null,
    first_position bigint,                           -- of the events of a tile of level 0
    last_position  bigint,
    steps          bytea,                            -- how far each further event lies behind the one before, LEB128
    primary key (level, number)
)
-- next
alter table ensue.seal_tiles alter column hashes set storage external
-- next
create unique index seal_tiles_position on ensue.seal_tiles (first_position) where level = 0
-- next
create table ensue.seal_checkpoints (
    size      bigint primary key,
    position  bigint not null,
    note      text not null,                         -- C2SP signed-note
    signed_at timestamptz not null default clock_timestamp()
)
