-- What else names a key in something encrypted: how many rows of each table.
select 'snapshots', count(*) from ensue_snapshots where instr(state, :key) > 0
union all
select 'dead letters', count(*) from ensue_parked
where instr(reason || ' ' || coalesce(traceback, '') || ' ' || coalesce(data, ''), :key) > 0
union all
select 'timers', count(*) from ensue_timers where instr(event, :key) > 0
union all
select 'processes', count(*) from ensue_processes where instr(state || undo, :key) > 0
union all
select 'audit', count(*) from ensue_audit where instr(detail, :key) > 0
