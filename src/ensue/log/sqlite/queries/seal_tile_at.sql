-- The tile of level 0 in which the event of a position is, if it is in one.
select number, hashes, first_position, last_position, steps from ensue_seal_tiles
where level = 0 and first_position <= :position order by first_position desc limit 1
