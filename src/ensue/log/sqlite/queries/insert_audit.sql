insert into ensue_audit (actor, action, subscription, key, event_id, reason, detail)
values (:actor, :action, :subscription, :key, :event_id, :reason, :detail)
