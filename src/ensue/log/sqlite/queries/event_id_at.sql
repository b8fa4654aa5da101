select id from ensue_events where stream = :stream and version = :version
