-- What operators did, the latest first, before an entry; to one subscription, one key or one event, if they are given.
select at, actor, action, subscription, key, event_id, reason, detail, number
from ensue_audit
where number < :before
    and (:subscription is null or subscription = :subscription)
    and (:key is null or key = :key)
    and (:event_id is null or event_id = :event_id or instr(detail, :event_id) > 0)
order by number desc limit :limit
