-- The ids of the events of a stream behind one version, up to another.
select version, id from ensue_events where stream = :stream and version > :after and version <= :until
