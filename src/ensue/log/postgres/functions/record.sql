-- Record events in the current transaction; for any language, psql and triggers.
--
--   events    a JSON object, or an array of them: type and data (required), id, kind ('domain' unless given), key,
--             metadata, correlation_id, causation_id
--   stream    the stream of which they are the next versions
--   expected  the version at which the stream must be (0: it must not exist); null: any
--   dedupe    record once under this key; later calls return the first receipt, with duplicate = true
--   log       the application to which the log must belong; null: any
--   alone     refuse if this transaction has recorded in another stream: one transaction, one aggregate
--   type      then events is the data of one event of this type, and kind, key, id, metadata, correlation_id and
--             causation_id are its other members: cheaper, there is no object to be taken apart
--
-- Returns {"positions": […], "ids": […], "version": …, "recorded_at": …, "duplicate": false}; a duplicate also tells
-- the first receipt's "stream", and a second stream in one transaction has "beside": the first one.
-- Errors: EN001 the stream is at another version, EN002 the log belongs to another application, EN003 no events, or a
-- version expected of no stream, EN004 another stream in one transaction.
--
-- The writer's half of the horizon protocol. A reader must never pass a position that may still become visible, and
-- writers must not wait for each other. So, once per transaction and before it takes its first position, a writer
-- reads the sequence's last value L and takes the shared lock (log, L), held until its commit is visible:
--
--   Suppose a transaction still running when a reader takes its snapshot (step 3) holds a position p <= H. The reader
--   read S >= H first (step 1), so p <= S was taken before that; its lock with L < p was taken before p, and is held
--   still. So the reader saw it when it looked at the locks (step 2), and H <= L < p: a contradiction.
--
-- That the lock is held is remembered in a transaction-local setting: a savepoint that is rolled back takes back the
-- setting and the lock alike.
--
-- Written to be short of expressions: PL/pgSQL prepares each anew in every transaction, and that is most of its price.
create or replace function ensue.record(
    events json,
    stream text default null,
    expected bigint default null,
    dedupe text default null,
    log text default null,
    alone boolean default false,
    type text default null,
    kind text default null,
    key text default null,
    id uuid default null,
    metadata json default null,
    correlation_id text default null,
    causation_id text default null
) returns json language plpgsql volatile as $$
#variable_conflict use_column
declare
    written text;
    beside text;
    before bigint;
    several boolean;
    now timestamptz;
begin
    if record.log <> ensue.owner() or coalesce(record.dedupe, record.stream, record.expected::text) is not null then
        if record.log <> ensue.owner() then
            raise exception using errcode = 'EN002', message = pg_catalog.format(
                'the log in schema ensue of database %s belongs to %s, not to %s',
                pg_catalog.current_database(), ensue.owner(), record.log);
        end if;

        if record.dedupe is not null then
            insert into ensue.deduplicated (key) values (record.dedupe) on conflict do nothing;
            if not found then
                select d.receipt into written from ensue.deduplicated d where d.key = record.dedupe;
                return pg_catalog.replace(written, '"duplicate":false', '"duplicate":true');
            end if;
        end if;

        if record.stream is not null then
            beside := pg_catalog.current_setting('ensue_stream.ensue', true);
            if coalesce(beside, '') in ('', record.stream) then
                beside := null;
                written := pg_catalog.set_config('ensue_stream.ensue', record.stream, true);
            elsif record.alone then
                raise exception using errcode = 'EN004', detail = beside, message = pg_catalog.format(
                    'stream %s has been recorded in by this transaction, stream %s cannot be too',
                    beside, record.stream);
            end if;
            if record.expected is null then  -- writers of a stream queue up: the index would refuse the later one
                perform pg_catalog.pg_advisory_xact_lock(
                    pg_catalog.hashtextextended(record.stream, 'ensue.positions'::regclass::oid::bigint));
            end if;
            select coalesce(max(e.version), 0) into before from ensue.events e where e.stream = record.stream;
            if record.expected <> before then
                raise exception using errcode = 'EN001', detail = before::text, message = pg_catalog.format(
                    'stream %s is at version %s, expected %s', record.stream, before, record.expected);
            end if;
        elsif record.expected is not null then
            raise exception using errcode = 'EN003', message = 'expected is about a stream: say which';
        end if;
    end if;

    -- The writer's lock, if this transaction does not hold it yet; null if the sequence's last value is kept from it.
    if (case
        when coalesce(pg_catalog.current_setting('ensue_writer.ensue', true), '') <> '' then false
        when pg_catalog.pg_advisory_xact_lock_shared(
            'ensue.positions'::regclass::oid::integer,
            pg_catalog.pg_sequence_last_value('ensue.positions')::bit(32)::integer) is null then true
        else pg_catalog.set_config('ensue_writer.ensue', 'holds', true) is null
    end) then
        raise exception 'sequence ensue.positions cannot be read: grant usage on it';
    end if;

    if record.type is null then
        several := pg_catalog.json_typeof(record.events) is distinct from 'object';
        if not several then
            select e.type, e.kind, e.key, e.id, e.metadata, e.correlation_id, e.causation_id, e.data
            into record.type, record.kind, record.key, record.id, record.metadata, record.correlation_id,
                record.causation_id, record.events
            from pg_catalog.json_populate_record(null::"ensue".events, record.events) e;  -- the name may be a keyword
        end if;
    end if;

    if several then
        now := pg_catalog.clock_timestamp();
        with recorded as (
            insert into ensue.events (
                position, id, type, kind, stream, version, key, data, metadata, correlation_id, causation_id, recorded_at)
            select pg_catalog.nextval('ensue.positions'), coalesce(e.id, ensue.new_id()), e.type,
                coalesce(e.kind, 'domain'), record.stream, before + e.number, e.key, e.data, e.metadata,
                e.correlation_id, e.causation_id, now
            from rows from (pg_catalog.json_to_recordset(record.events) as (
                id uuid, type text, kind text, key text, data json, metadata json, correlation_id text,
                causation_id text)) with ordinality
                as e (id, type, kind, key, data, metadata, correlation_id, causation_id, number)
            returning position, id, version
        )
        select '{"positions":[' || pg_catalog.string_agg(r.position::text, ',' order by r.position) || '],"ids":["'
            || pg_catalog.string_agg(r.id::text, '","' order by r.position) || '"],"version":'
            || coalesce(max(r.version)::text, 'null') || ',"recorded_at":' || pg_catalog.to_json(now)
            || ',"duplicate":false}'
        into written
        from recorded r;
        if written is null then
            raise exception using errcode = 'EN003', message = 'record() was given no event';
        end if;
    else  -- one event, the usual case, by the cheapest plan
        insert into ensue.events (
            position, id, type, kind, stream, version, key, data, metadata, correlation_id, causation_id, recorded_at)
        values (
            pg_catalog.nextval('ensue.positions'), coalesce(record.id, ensue.new_id()), record.type,
            coalesce(record.kind, 'domain'), record.stream, before + 1, record.key, record.events, record.metadata,
            record.correlation_id, record.causation_id, pg_catalog.clock_timestamp())
        returning '{"positions":[' || position || '],"ids":["' || id || '"],"version":'
            || coalesce(version::text, 'null') || ',"recorded_at":' || pg_catalog.to_json(recorded_at)
            || ',"duplicate":false}'
        into written;
    end if;

    if coalesce(record.dedupe, beside) is not null then
        if record.dedupe is not null then
            update ensue.deduplicated d
            set receipt = pg_catalog.rtrim(written, '}')
                || ',"stream":' || coalesce(pg_catalog.to_json(record.stream)::text, 'null') || '}'
            where d.key = record.dedupe;
        end if;
        if beside is not null then
            written := pg_catalog.rtrim(written, '}') || ',"beside":' || pg_catalog.to_json(beside) || '}';
        end if;
    end if;

    -- A call is due if a reader sleeps: it said so before it looked for locks, so if we miss it, it waits for ours.
    if pg_catalog.pg_sequence_last_value('ensue.sleeping')
        > pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) then
        perform pg_catalog.pg_notify('ensue', '');
    end if;
    return written;
end
$$
