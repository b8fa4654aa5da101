-- What operators look at stays quick, however much is parked, audited or running: the console reads these indexes, and no table.
-- What a reason says in front of its first colon: the class of the error, by which dead letters are grouped. What is
-- encrypted says nothing.
alter table ensue.parked
    add column fault text generated always as (
        case when starts_with(reason, 'ensue.personal.') then '(personal)'
        else left(split_part(split_part(reason, chr(10), 1), ':', 1), 120) end) stored
-- next
create index parked_position on ensue.parked (position, subscription)
-- next
create index parked_faults on ensue.parked (subscription, type, fault, position) include (next_step, parked_at)
-- next
create index parked_failed on ensue.parked (subscription, failed_at, position) where attempt > 0
-- next
create index audit_subscription on ensue.audit (subscription, number)
-- next
create index audit_key on ensue.audit (key, number)
-- next
create index processes_status on ensue.processes (process, status, started_at, key)
