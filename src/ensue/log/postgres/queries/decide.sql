-- A person says what happens next with a parked key; the worker that holds it carries it out.
update ensue.parked
set next_step = :next_step, due_at = clock_timestamp(), data = coalesce(cast(:data as text), data),
    edited = case when cast(:data as text) is null then edited else revision + 1 end,
    until = :until, revision = revision + 1,
    attempt = case when cast(:next_step as text) = 'retry' then 0 else attempt end,
    tries_since = case when cast(:next_step as text) = 'retry' then clock_timestamp() else tries_since end
where subscription = :subscription and key = :key and position = :position
returning key
