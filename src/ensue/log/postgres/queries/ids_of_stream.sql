-- The ids of the events of a stream behind one version, up to another.
select version, cast(id as text) from ensue.events where stream = :stream and version > :after and version <= :until
