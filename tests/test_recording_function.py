"""PostgreSQL's recording function, called as another language, a trigger or psql would call it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import datetime
from typing import Any
from uuid import RFC_4122, UUID

import psycopg
import pytest

from ensue import App, DomainEvent, Metadata, SourcedEvent
from tests.servers import OwnPostgres

NOTED = '[{"type": "test.function.noted", "data": {"text": "one"}}]'


class Noted(DomainEvent, name="test.function.noted"):
    text: str


class Deposited(SourcedEvent, name="test.function.deposited"):
    amount: int


@pytest.fixture
def app(installed_postgres_url: str, schema: str) -> App:
    app = App("function", installed_postgres_url, schema=schema)
    app.migrate()
    return app


@pytest.mark.parametrize(
    ("arguments", "constraint"),
    [
        ("""'{"type": "x", "data": 1, "key": "%s"}'""", "a_key_has_at_most_400_characters"),
        (f"'{NOTED}', '%s'", "a_stream_has_at_most_400_characters"),
        (f"'{NOTED}', dedupe => '%s'", "a_dedupe_key_has_at_most_400_characters"),
    ],
)
def test_what_no_index_could_hold_is_refused(sql: Sql, arguments: str, constraint: str) -> None:
    sql.record(arguments.replace("%s", "x" * 400))
    with pytest.raises(psycopg.errors.CheckViolation, match=constraint):
        sql.record(arguments.replace("%s", "x" * 401))


class Sql:
    """A session that knows nothing of ensue but its functions."""

    def __init__(self, app: App, *, autocommit: bool = False) -> None:
        self.schema = app.log.place.schema
        self.connection = psycopg.connect(app.log.place.url, autocommit=autocommit)
        self.commit, self.transaction, self.close = (
            self.connection.commit,
            self.connection.transaction,
            self.connection.close,
        )

    def execute(self, sql: str) -> list[Any]:
        """Execute SQL that is written for the schema `ensue`."""
        cursor = self.connection.execute(sql.replace("ensue.", f"{self.schema}."))
        return cursor.fetchall() if cursor.description else []

    def record(self, arguments: str = f"'{NOTED}'") -> dict[str, Any]:
        ((receipt,),) = self.execute(f"select ensue.record({arguments})")
        assert isinstance(receipt, dict)
        return receipt

    def horizon(self) -> int:
        ((position,),) = self.execute("select ensue.horizon()")
        assert isinstance(position, int)
        return position

    def locks(self) -> int:
        """Count the locks of writers that the horizon looks at."""
        ((count,),) = self.execute(
            "select count(*) from pg_locks where locktype = 'advisory' and objsubid = 2 "
            "and classid = 'ensue.positions'::regclass::oid"
        )
        assert isinstance(count, int)
        return count


@pytest.fixture
def sql(app: App) -> Iterator[Sql]:
    """Yield a session in which each statement is a transaction of its own."""
    with closing(Sql(app, autocommit=True)) as sql:
        yield sql


def texts(app: App) -> list[str]:
    return [each.event.text for each in app.read()]


# ------------------------------------------------------------------------------------------- what it takes and gives


def test_one_event_can_be_given_in_arguments(app: App, sql: Sql) -> None:
    sql.record("""'{"text": "one"}', type => 'test.function.noted'""")
    receipt = sql.record(
        """'{"text":  "two"}', 'notes', type => 'test.function.noted', kind => 'sourced', key => 'k',
        metadata => '{"actor": "anna"}', id => '01a2077a-4802-7b5d-87b9-bbcb1198236c',
        correlation_id => 'a', causation_id => 'b'"""
    )
    one, two = app.read()
    assert (one.event, one.kind, one.own_key, one.metadata.causation_id) == (Noted(text="one"), "domain", None, None)
    assert (two.data, two.kind, two.own_key, two.stream, two.version) == (
        '{"text":  "two"}',
        "sourced",
        "k",
        "notes",
        1,
    )
    assert two.metadata == Metadata(correlation_id="a", causation_id="b", actor="anna")
    assert receipt["ids"] == [two.id_text] == ["01a2077a-4802-7b5d-87b9-bbcb1198236c"]


def test_other_arguments_of_one_event_count_only_with_its_type(app: App, sql: Sql) -> None:
    sql.record(f"'{NOTED[1:-1]}', key => 'ignored', kind => 'sourced'")
    sql.record(f"'{NOTED}', key => 'ignored', kind => 'sourced'")
    assert [(each.own_key, each.kind) for each in app.read()] == [(None, "domain")] * 2


def test_type_and_data_are_enough(app: App, sql: Sql) -> None:
    receipt = sql.record()
    (found,) = app.read()
    assert (found.event, found.kind, found.own_key, found.stream, found.version) == (
        Noted(text="one"),
        "domain",
        None,
        None,
        None,
    )
    assert (found.id.version, found.id.variant) == (7, RFC_4122)
    assert (found.correlation_id, found.causation_id) == (str(found.id), None)
    assert found.data == '{"text": "one"}', "kept to the letter"
    assert receipt == {
        "positions": [found.position],
        "ids": [str(found.id)],
        "version": None,
        "recorded_at": receipt["recorded_at"],
        "duplicate": False,
    }
    assert datetime.fromisoformat(receipt["recorded_at"]) == found.recorded_at


def test_one_event_needs_no_array(app: App, sql: Sql) -> None:
    receipt = sql.record(f"'{NOTED[1:-1]}', stream => 's'")
    (found,) = app.read()
    assert (found.event, found.version) == (Noted(text="one"), 1)
    assert (receipt["positions"], receipt["ids"]) == ([1], [str(found.id)])


def test_everything_else_can_be_given(app: App, sql: Sql) -> None:
    id = UUID("01900000-0000-7000-8000-000000000001")
    events = [
        {
            "id": str(id),
            "type": "test.function.deposited",
            "kind": "sourced",
            "key": "a key",
            "data": {"amount": 1},
            "metadata": {"actor": "trigger", "headers": {"a": "1"}},
            "correlation_id": "request",
            "causation_id": "command",
            "unknown": "is left out",
        },
        {"type": "test.function.noted", "kind": "integration", "data": {"text": "two"}},
    ]
    receipt = sql.record(f"'{json.dumps(events)}', stream => 's', expected => 0, dedupe => 'd', log => 'function'")
    first, second = app.read()
    assert first.id == id
    assert (first.kind, first.key, first.stream, first.version) == ("sourced", "a key", "s", 1)
    assert (first.metadata.actor, first.metadata.headers) == ("trigger", {"a": "1"})
    assert (first.correlation_id, first.causation_id) == ("request", "command")
    assert (second.kind, second.key, second.version) == ("integration", "s", 2)
    assert receipt["ids"] == [str(first.id), str(second.id)]
    assert receipt["version"] == 2
    again = sql.record("'[]', null, null, 'd'")
    assert again == {**receipt, "duplicate": True, "stream": "s"}
    assert len(list(app.read())) == 2


def test_a_duplicate_tells_the_receipt_whatever_its_events_were(app: App, sql: Sql) -> None:
    first = sql.record(f"'{NOTED}', dedupe => '\"duplicate\":false'")
    again = sql.record(f"'{NOTED}', dedupe => '\"duplicate\":false'")
    assert again == {**first, "duplicate": True, "stream": None}
    first = sql.record(f"'{NOTED}', stream => 'a}}}}\"duplicate\":false', dedupe => 'k'")
    assert sql.record(f"'{NOTED}', dedupe => 'k'") == {**first, "duplicate": True, "stream": 'a}}"duplicate":false'}


def test_several_events_keep_their_order(app: App, sql: Sql) -> None:
    receipt = sql.record(
        """(select json_agg(json_build_object('type', 'test.function.noted', 'data', json_build_object('text', n::text))
            order by n) from generate_series(1, 500) n), stream => 's'""",
    )
    found = list(app.read())
    assert [each.event.text for each in found] == [str(n) for n in range(1, 501)]
    assert [each.version for each in found] == list(range(1, 501))
    assert receipt["positions"] == [each.position for each in found]
    assert receipt["ids"] == [str(each.id) for each in found]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (f"'{NOTED}', stream => 's', expected => 3", "EN001", "stream s is at version 0, expected 3"),
        (f"'{NOTED}', log => 'somebody'", "EN002", "belongs to function, not to somebody"),
        ("'[]'", "EN003", "no event"),
        ("null", "EN003", "no event"),
        (f"'{NOTED}', expected => 0", "EN003", "about a stream"),
        ("'7'", "22023", "scalar|array"),
        ("'[{\"data\": {}}]'", "23502", "type"),
        ('\'[{"type": "a"}]\'', "23502", "data"),
        ('\'[{"type": "a", "data": {}, "kind": "odd"}]\'', "23514", "kind"),
        ('\'[{"type": "a", "data": {}, "kind": "sourced"}]\'', "23514", "stream"),
        ('\'[{"type": "a", "data": {}, "id": "no id"}]\'', "22P02", "uuid"),
    ],
)
def test_what_cannot_be_recorded_is_an_error(app: App, sql: Sql, arguments: str, code: str, says: str) -> None:
    with pytest.raises(psycopg.Error, match=says) as caught:
        sql.record(arguments)
    assert caught.value.sqlstate == code
    assert list(app.read()) == []


def test_an_id_is_recorded_once(app: App, sql: Sql) -> None:
    event = '[{"type": "a", "data": {}, "id": "01900000-0000-7000-8000-000000000001"}]'
    sql.record(f"'{event}'")
    with pytest.raises(psycopg.errors.UniqueViolation, match="events_id"):
        sql.record(f"'{event}'")


def test_a_trigger_records_in_the_transaction_that_fires_it(app: App, sql: Sql) -> None:
    sql.execute("create table ensue.accounts (id integer primary key, email text)")
    sql.execute(
        """
        create function ensue.signed_up() returns trigger language plpgsql as $$
        begin
            perform ensue.record(
                json_build_array(json_build_object(
                    'type', 'test.function.noted', 'key', new.id::text, 'data', json_build_object('text', new.email))),
                dedupe => 'account ' || new.id);
            return null;
        end $$
        """
    )
    sql.execute(
        "create trigger signed_up after insert on ensue.accounts for each row execute function ensue.signed_up()"
    )
    sql.execute("insert into ensue.accounts values (1, 'one'), (2, 'two')")
    with suppress(LookupError), sql.transaction():
        sql.execute("insert into ensue.accounts values (3, 'three')")
        raise LookupError
    with pytest.raises(psycopg.errors.UniqueViolation):
        sql.execute("insert into ensue.accounts values (4, 'four'), (1, 'again')")
    assert [(each.event.text, each.key) for each in app.read()] == [("one", "1"), ("two", "2")]


def test_it_runs_whatever_the_session_is_set_to(app: App) -> None:
    with closing(Sql(app)) as sql:
        for setting in (
            "search_path = ''",
            "datestyle = german",
            "timezone = 'Asia/Kathmandu'",
            "extra_float_digits = 0",
            "bytea_output = escape",
            "plpgsql.variable_conflict = use_variable",
            "default_transaction_isolation = serializable",
        ):
            sql.execute(f"set {setting}")
        sql.commit()
        first = sql.record(f"'{NOTED}', stream => 's', dedupe => 'd'")
        second = app.record(Noted(text="two"), via=sql.connection, stream="s", expected=1)
        sql.commit()
        assert sql.horizon() == second.position
    assert [each.recorded_at for each in app.read()] == [
        datetime.fromisoformat(first["recorded_at"]),
        second.recorded_at,
    ]
    assert texts(app) == ["one", "two"]


def test_every_log_of_a_database_has_functions_of_its_own(app: App, sql: Sql) -> None:
    other = App("other function", app.log.place.url, schema=f"{app.log.place.schema}_2")
    other.migrate()
    with closing(Sql(other, autocommit=True)) as reader:
        with sql.transaction():
            sql.record()
            sql.connection.execute(f"select {reader.schema}.record('{NOTED}', log => 'other function')")
            assert (sql.locks(), reader.locks()) == (1, 1), "one lock per log"
            assert (sql.horizon(), reader.horizon()) == (0, 0)
        assert (sql.horizon(), reader.horizon()) == (1, 1)
    assert texts(app) == texts(other) == ["one"]


# -------------------------------------------------------------------------------------------- the lock of the horizon


@pytest.fixture
def writer(app: App) -> Iterator[Sql]:
    """Yield a session with a transaction that begins with its first statement."""
    with closing(Sql(app)) as writer:
        yield writer


def test_a_writer_holds_one_lock_however_often_it_records(app: App, sql: Sql, writer: Sql) -> None:
    for _ in range(3):
        writer.record()
    assert (sql.locks(), sql.horizon()) == (1, 0)
    sql.record()
    assert sql.horizon() == 0, "the writer's positions are below"
    assert texts(app) == []
    writer.commit()
    assert (sql.locks(), sql.horizon()) == (0, 4)
    assert len(texts(app)) == 4


def test_a_transaction_that_records_nothing_holds_nothing_back(app: App, sql: Sql, writer: Sql) -> None:
    writer.execute("create table ensue.another_matter (id integer)")
    writer.execute("select count(*) from ensue.events")
    sql.record()
    assert (sql.locks(), sql.horizon()) == (0, 1)
    assert texts(app) == ["one"]


def test_an_exception_block_gives_its_lock_back_and_the_next_record_takes_one(app: App, sql: Sql, writer: Sql) -> None:
    """The lock and the memory of it are undone together; else what follows could be missed."""
    sql.execute(
        f"""
        create function ensue.try_to_record() returns void language plpgsql as $$
        begin
            begin
                perform ensue.record('{NOTED}');
                raise division_by_zero;
            exception when division_by_zero then null;
            end;
        end $$
        """
    )
    writer.execute("select ensue.try_to_record()")
    assert sql.locks() == 0
    sql.record()
    assert sql.horizon() == 2, "what was rolled back holds nothing back"
    writer.record()
    assert sql.locks() == 1
    sql.record()
    assert sql.horizon() == 2
    assert [each.position for each in app.read()] == [2]
    writer.execute("select ensue.try_to_record()")
    assert sql.locks() == 1, "an earlier lock survives"
    sql.record()
    writer.commit()
    assert (sql.locks(), sql.horizon()) == (0, 6)
    assert [each.position for each in app.read()] == [2, 3, 4, 6]


def test_a_lock_taken_in_a_savepoint_is_kept_when_it_is_released(app: App, sql: Sql, writer: Sql) -> None:
    writer.execute("select 1")
    with writer.transaction():
        app.record(Noted(text="one"), via=writer.connection)
    with suppress(LookupError), writer.transaction():
        app.record(Noted(text="dropped"), via=writer.connection)
        raise LookupError
    assert (sql.locks(), sql.horizon()) == (1, 0)
    sql.record()
    assert (sql.horizon(), texts(app)) == (0, [])
    writer.commit()
    assert (sql.locks(), sql.horizon()) == (0, 3)
    assert [each.position for each in app.read()] == [1, 3]


def test_the_next_transaction_of_a_session_takes_a_lock_of_its_own(app: App, sql: Sql, writer: Sql) -> None:
    """What one transaction remembers must not outlive it."""
    writer.record()
    writer.commit()
    writer.record()
    sql.record()
    assert (sql.locks(), sql.horizon()) == (1, 1)
    writer.commit()
    assert sql.horizon() == 3


def test_the_horizon_is_seen_across_32_bits(sql: Sql, writer: Sql) -> None:
    """A lock has room for 32 bits of the position; the rest is found by what is near."""
    for start in (2**31 - 2, 2**32 - 2, 2**33 - 1, 2**40 + 2**32 - 3):
        sql.execute(f"select setval('ensue.positions', {start})")
        assert writer.record()["positions"] == [start + 1]
        for _ in range(4):
            sql.record()
        assert sql.horizon() == start
        writer.commit()
        assert sql.horizon() == start + 5


def test_a_prepared_transaction_is_waited_for(own_postgres: OwnPostgres) -> None:
    """Two-phase commit: the event becomes visible long after its session has gone."""
    own_postgres.settings["max_prepared_transactions"] = "2"
    own_postgres.restart()
    app = App("function", own_postgres.url)
    app.migrate()
    with closing(Sql(app, autocommit=True)) as sql:
        with closing(Sql(app, autocommit=True)) as writer:
            writer.execute("begin")
            app.record(Noted(text="prepared"), via=writer.connection)
            writer.execute("prepare transaction 'suite'")
        sql.record()
        assert (sql.locks(), sql.horizon(), texts(app)) == (1, 0, [])
        sql.execute("commit prepared 'suite'")
        assert (sql.locks(), sql.horizon(), texts(app)) == (0, 2, ["prepared", "one"])
        sql.execute("begin")
        sql.record()
        sql.execute("prepare transaction 'suite'")
        assert sql.horizon() == 2
        sql.execute("rollback prepared 'suite'")
        assert (sql.horizon(), texts(app)) == (3, ["prepared", "one"])
