select number, hashes, first_position, last_position, steps from ensue.seal_tiles
where level = cast(:level as smallint) and number >= :first and number < :after order by number
