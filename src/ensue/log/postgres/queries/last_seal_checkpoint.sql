select size, position, note from ensue.seal_checkpoints order by size desc limit 1
