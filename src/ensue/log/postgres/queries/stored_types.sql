-- Every type that there is, by one step in the index for each.
with recursive found as (
    select (select type from ensue.events order by type limit 1) as type
    union all
    select (select e.type from ensue.events e where e.type > f.type order by e.type limit 1)
    from found f where f.type is not null
)
select type from found where type is not null
