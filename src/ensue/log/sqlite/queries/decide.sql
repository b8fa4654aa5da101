-- A person says what happens next with a parked key; the worker that holds it carries it out.
update ensue_parked
set next_step = :next_step, due_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), data = coalesce(cast(:data as text), data),
    edited = case when cast(:data as text) is null then edited else revision + 1 end,
    until = :until, revision = revision + 1,
    attempt = case when cast(:next_step as text) = 'retry' then 0 else attempt end,
    tries_since = case when cast(:next_step as text) = 'retry' then strftime('%Y-%m-%dT%H:%M:%fZ', 'now') else tries_since end
where subscription = :subscription and key = :key and position = :position
returning key
