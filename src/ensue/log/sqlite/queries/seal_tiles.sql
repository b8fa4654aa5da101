select number, hashes, first_position, last_position, steps from ensue_seal_tiles
where level = :level and number >= :first and number < :after order by number
