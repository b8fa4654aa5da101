select coalesce(max(version), 0) from ensue_events where stream = :stream
