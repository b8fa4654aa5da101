-- What says that events were pruned from a sealed log.
select position, cast(data as blob) from ensue_events where type = :type and position > :after order by position limit :limit
