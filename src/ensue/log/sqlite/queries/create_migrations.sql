create table ensue_migrations (name text primary key, applied_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')))
