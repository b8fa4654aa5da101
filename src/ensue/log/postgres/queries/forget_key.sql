-- Destroy a person's key for good; one that never had a key gets none any more. `id` is of a key that never was.
insert into ensue.personal_keys (subject, id, forgotten_at) values (:subject, :id, clock_timestamp())
on conflict (subject) do update
set wrapped = null, master = null, forgotten_at = coalesce(personal_keys.forgotten_at, clock_timestamp())
returning id, ensue.iso(forgotten_at)
