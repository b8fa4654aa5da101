-- Transactions that have recorded and are still open, the furthest behind first; see functions/horizon.sql.
select s.last_value + (l.objid::bigint - s.last_value)::bit(32)::integer, l.pid, a.application_name, a.state,
    cast(coalesce(extract(epoch from clock_timestamp() - a.xact_start), 0) as double precision), a.query
from ensue.positions s
cross join pg_locks l
left join pg_stat_activity a on a.pid = l.pid
where l.locktype = 'advisory' and l.classid = 'ensue.positions'::regclass::oid and l.objsubid = 2
    and l.database = (select d.oid from pg_database d where d.datname = current_database())
order by 1
