-- A stream's snapshot, if it is of this structure and not too new, with no type; then the events behind it.
with taken as (
    select version, state from ensue_snapshots
    where stream = :stream and structure = :structure and version <= :until
)
select version, null as type, state from taken
union all
select version, type, data from ensue_events
where stream = :stream and version > coalesce((select version from taken), 0) and version <= :until
order by version
