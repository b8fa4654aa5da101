-- Forget messages that a consumer has taken in so many seconds ago; some at a time.
delete from ensue_inbox
where (consumer, source, id) in (
    select consumer, source, id from ensue_inbox
    where consumer = :consumer and received_at < strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-' || :seconds || ' seconds')
    limit :limit)
returning id
