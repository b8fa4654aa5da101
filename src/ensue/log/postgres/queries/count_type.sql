-- How many events of a type lie between two positions; it stops counting at so many.
select count(*) from (
    select 1 from ensue.events where type = :type and position > :after and position <= :until limit :most
) as found
