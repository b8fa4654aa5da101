select size, position, note from ensue.seal_checkpoints where size > :after order by size limit :limit
