-- The position of the last but so many events of a type.
select min(position) from (
    select position from ensue.events where type = :type order by position desc limit :limit
) as newest
