-- The application to which the log belongs; a constant for the planner, made anew by every migration.
do $$
begin
    execute pg_catalog.format(
        'create or replace function ensue.owner() returns text language sql immutable as %L',
        pg_catalog.format('select %L::text', (select name from ensue.log)));
end
$$
