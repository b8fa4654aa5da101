-- What else names a key in something encrypted: how many rows of each table.
select 'snapshots', count(*) from ensue.snapshots where strpos(state::text, :key) > 0
union all
select 'dead letters', count(*) from ensue.parked where strpos(concat_ws(' ', reason, traceback, data), :key) > 0
union all
select 'timers', count(*) from ensue.timers where strpos(event::text, :key) > 0
union all
select 'processes', count(*) from ensue.processes where strpos(state::text || undo::text, :key) > 0
union all
select 'audit', count(*) from ensue.audit where strpos(detail::text, :key) > 0
