-- How many events there are of each type.
select type, count(*) from ensue_events group by type order by type
