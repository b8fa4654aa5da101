-- The position up to which lie the next so many events of a type; null if there are none.
select max(position) from (
    select position from ensue_events
    where type = :type and position > :after and position <= :until order by position limit :limit
) as next
