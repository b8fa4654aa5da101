-- Two faces of one thing. `ensue.head()`: the position up to which the log is complete, and whether anybody is
-- recording at the moment. `ensue.horizon()`: only the first.
--
-- The reader's half of the horizon protocol (its proof stands in record.sql):
--   (1) read the sequence's last value S;
--   (2) then read the smallest L for which a writer holds the lock (log, L); H = min(S, L);
--   (3) in a LATER STATEMENT, hence with a later snapshot, read the events with position <= H.
-- Each statement of a volatile function sees what was committed before it began, so (1) and (2) may stand in one
-- function; (3) must not run under REPEATABLE READ with a snapshot older than this call.
--
-- A lock carries the low 32 bits of L. The distance from S is resolved as a signed 32-bit number: a writer that took
-- its lock after (1) has L > S and does not count; L may lie up to 2^31 positions behind.
create or replace function ensue.head(out horizon bigint, out writers boolean) language plpgsql volatile as $$
declare
    last bigint;
    nearest bigint;
begin
    last := pg_catalog.pg_sequence_last_value('ensue.positions');
    select min((l.objid::bigint - last)::bit(32)::integer) into nearest
    from pg_catalog.pg_locks l
    where l.locktype = 'advisory' and l.classid = 'ensue.positions'::regclass::oid and l.objsubid = 2
        and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database());
    horizon := last + least(coalesce(nearest, 0), 0);
    writers := nearest is not null;
end
$$
-- next
create or replace function ensue.horizon() returns bigint language plpgsql volatile as $$
begin
    return (select h.horizon from ensue.head() h);
end
$$
