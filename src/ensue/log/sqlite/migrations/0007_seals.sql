-- The seal: what has been hashed of the log, and what was signed of it. One row tells how far it is.
create table ensue_seal (
    single   integer primary key default 1 check (single = 1),
    size     integer not null,                       -- how many events have a leaf
    position integer not null                        -- the last of them
)
-- next
-- Tiles of the Merkle tree, as in C2SP tlog-tiles: up to 256 hashes; on level 0 of events, above that of full tiles.
create table ensue_seal_tiles (
    level          integer not null,
    number         integer not null,
    hashes         blob not null,
    first_position integer,                          -- of the events of a tile of level 0
    last_position  integer,
    steps          blob,                             -- how far each further event lies behind the one before, LEB128
    primary key (level, number)
)
-- next
create unique index ensue_seal_tiles_position on ensue_seal_tiles (first_position) where level = 0
-- next
create table ensue_seal_checkpoints (
    size      integer primary key,
    position  integer not null,
    note      text not null,                         -- C2SP signed-note
    signed_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
)
