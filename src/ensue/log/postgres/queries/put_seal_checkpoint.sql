insert into ensue.seal_checkpoints (size, position, note) values (:size, :position, :note)
