-- How many events of each type lie between two positions.
select type, count(*) from ensue_events where position > :after and position <= :until group by type
