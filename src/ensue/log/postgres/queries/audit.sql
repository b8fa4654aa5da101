-- What operators did, the latest first, before an entry; to one subscription, one key or one event, if they are given.
select ensue.iso(at), actor, action, subscription, key, event_id, reason, detail::text, number
from ensue.audit
where number < :before
    and (cast(:subscription as text) is null or subscription = cast(:subscription as text))
    and (cast(:key as text) is null or key = cast(:key as text))
    and (cast(:event_id as text) is null or event_id = cast(:event_id as text)
        or strpos(detail::text, cast(:event_id as text)) > 0)
order by number desc limit :limit
