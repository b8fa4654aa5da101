update ensue.seal set size = :size, position = :position
