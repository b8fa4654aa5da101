-- The events of a stream behind one version, up to another.
select version, type, cast(data as text) from ensue.events
where stream = :stream and version > :after and version <= :until order by version
