-- What says that events were pruned from a sealed log.
select position, data::text from ensue.events where type = :type and position > :after order by position limit :limit
