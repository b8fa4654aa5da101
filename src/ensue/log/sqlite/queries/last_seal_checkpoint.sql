select size, position, cast(note as blob) from ensue_seal_checkpoints order by size desc limit 1
