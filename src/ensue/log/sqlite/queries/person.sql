-- A person's key, whether it is there, since when, and since when not any more.
select id, wrapped is not null, created_at, forgotten_at from ensue_personal_keys where subject = :subject
