-- How many events there are of each type.
select type, count(*) from ensue.events group by type order by type
