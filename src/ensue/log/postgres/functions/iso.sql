-- A moment as ISO 8601 text in UTC, whatever the session's settings are.
create or replace function ensue.iso(moment timestamptz) returns text language sql stable as $$
    select to_char(moment at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.USZ')
$$
