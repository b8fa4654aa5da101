-- The event that was the last one of a stream when it was loaded, and those behind it.
select version, type, data, id from ensue_events where stream = :stream and version >= :version order by version
