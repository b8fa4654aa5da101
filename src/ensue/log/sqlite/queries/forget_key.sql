-- Destroy a person's key for good; one that never had a key gets none any more. `id` is of a key that never was.
insert into ensue_personal_keys (subject, id, forgotten_at) values (:subject, :id, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
on conflict (subject) do update
set wrapped = null, master = null,
    forgotten_at = coalesce(ensue_personal_keys.forgotten_at, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
returning id, forgotten_at
