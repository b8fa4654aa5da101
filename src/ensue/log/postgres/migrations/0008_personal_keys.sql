-- The keys of persons, wrapped by a master key that is not in the database. One without `wrapped` is destroyed for good.
create table ensue.personal_keys (
    subject      text primary key constraint a_subject_has_at_most_400_characters check (length(subject) <= 400),
    id           text not null unique,               -- by which what is encrypted names it
    wrapped      text,
    master       text,                               -- the name of the master key that has wrapped it
    created_at   timestamptz not null default clock_timestamp(),
    forgotten_at timestamptz,
    check ((wrapped is null) = (forgotten_at is not null))
)
