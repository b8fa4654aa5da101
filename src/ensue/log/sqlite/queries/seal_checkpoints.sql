select size, position, cast(note as blob) from ensue_seal_checkpoints where size > :after order by size limit :limit
