-- A stream's snapshot, if it is of this structure and not too new, with no type; then the events behind it.
with taken as (
    select version, state from ensue.snapshots
    where stream = :stream and structure = :structure and version <= :until
)
select version, null as type, cast(state as text) from taken
union all
select version, type, cast(data as text) from ensue.events
where stream = :stream and version > coalesce((select version from taken), 0) and version <= :until
order by version
