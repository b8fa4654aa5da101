-- What operators did, the latest first; to one subscription or one event, if they are given.
select at, actor, action, subscription, key, event_id, reason, detail
from ensue_audit
where (:subscription is null or subscription = :subscription)
    and (:event_id is null or event_id = :event_id or instr(detail, :event_id) > 0)
order by number desc limit :limit
