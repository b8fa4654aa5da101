insert into ensue.audit (actor, action, subscription, key, event_id, reason, detail)
values (:actor, :action, :subscription, :key, :event_id, :reason, cast(:detail as json))
