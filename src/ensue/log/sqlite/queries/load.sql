-- The events of a stream behind one version, up to another.
select version, type, data from ensue_events
where stream = :stream and version > :after and version <= :until order by version
