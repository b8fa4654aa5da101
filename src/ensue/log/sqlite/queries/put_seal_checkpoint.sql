insert into ensue_seal_checkpoints (size, position, note) values (:size, :position, :note)
