-- The event that was the last one of a stream when it was loaded, and those behind it.
select version, type, cast(data as text), cast(id as text) from ensue.events where stream = :stream and version >= :version order by version
