-- Forget messages that a consumer has taken in so many seconds ago; some at a time.
delete from ensue.inbox
where ctid = any (array(
    select ctid from ensue.inbox
    where consumer = :consumer and received_at < clock_timestamp() - make_interval(secs => :seconds) limit :limit))
returning id
