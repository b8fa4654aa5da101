select cast(id as text) from ensue.events where stream = :stream and version = :version
