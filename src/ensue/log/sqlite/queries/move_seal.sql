update ensue_seal set size = :size, position = :position
