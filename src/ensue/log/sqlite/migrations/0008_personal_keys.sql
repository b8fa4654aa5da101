-- The keys of persons, wrapped by a master key that is not in the database. One without `wrapped` is destroyed for good.
create table ensue_personal_keys (
    subject      text primary key constraint a_subject_has_at_most_400_characters check (length(subject) <= 400),
    id           text not null unique,               -- by which what is encrypted names it
    wrapped      text,
    master       text,                               -- the name of the master key that has wrapped it
    created_at   text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    forgotten_at text,
    check ((wrapped is null) = (forgotten_at is not null))
)
