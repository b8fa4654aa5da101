-- What one subscription has set aside, for another.
insert into ensue_parked (
    subscription, key, slot, position, id, type, next_step, due_at, attempt, reason, traceback, worker, data, until,
    parked_at, tries_since, failed_at, revision, edited)
select :target, key, slot, position, id, type, next_step, due_at, attempt, reason, traceback, worker, data, until,
    parked_at, tries_since, failed_at, revision, edited
from ensue_parked where subscription = :source
