-- How many events lie between two positions; it stops counting at so many.
select count(*) from (
    select 1 from ensue.events where position > :after and position <= :until limit :most
) as found
