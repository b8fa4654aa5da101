-- What operators look at stays quick, however much is parked, audited or running: the console reads these indexes, and no table.
-- What a reason says in front of its first colon: the class of the error, by which dead letters are grouped. What is
-- encrypted says nothing.
alter table ensue_parked add column fault text generated always as (
    case when substr(reason, 1, 15) = 'ensue.personal.' then '(personal)'
    else substr(substr(reason, 1, instr(reason || ':', ':') - 1), 1, min(120, instr(reason || char(10), char(10)) - 1)) end
) virtual
-- next
create index ensue_parked_position on ensue_parked (position, subscription)
-- next
create index ensue_parked_faults on ensue_parked (subscription, type, fault, position, next_step, parked_at)
-- next
create index ensue_parked_failed on ensue_parked (subscription, failed_at, position) where attempt > 0
-- next
create index ensue_audit_subscription on ensue_audit (subscription, number)
-- next
create index ensue_audit_key on ensue_audit (key, number)
-- next
create index ensue_processes_status on ensue_processes (process, status, started_at, key)
