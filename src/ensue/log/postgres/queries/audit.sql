-- What operators did, the latest first; to one subscription or one event, if they are given.
select ensue.iso(at), actor, action, subscription, key, event_id, reason, detail::text
from ensue.audit
where (cast(:subscription as text) is null or subscription = cast(:subscription as text))
    and (cast(:event_id as text) is null or event_id = cast(:event_id as text)
        or strpos(detail::text, cast(:event_id as text)) > 0)
order by number desc limit :limit
