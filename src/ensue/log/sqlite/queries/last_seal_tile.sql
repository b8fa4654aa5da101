select number, hashes, first_position, last_position, steps from ensue_seal_tiles
where level = 0 order by number desc limit 1
