-- A person's key, whether it is there, since when, and since when not any more.
select id, wrapped is not null, ensue.iso(created_at), ensue.iso(forgotten_at) from ensue.personal_keys where subject = :subject
