"""Making the schema: once, by whoever comes first, under any usable name."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ensue import App, DomainEvent, SourcedEvent
from ensue.errors import DeclarationError, NotMigrated, WrongDatabase


class Noted(DomainEvent, name="test.migrating.noted"):
    text: str


class Counted(SourcedEvent, name="test.migrating.counted"):
    number: int


@pytest.fixture(params=["sqlite", "memory", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path, schema: str) -> str:
    match request.param:
        case "sqlite":
            return f"sqlite:///{tmp_path / 'log.db'}"
        case "memory":
            return f"memory://{schema}"
        case _:
            found: str = request.getfixturevalue("installed_postgres_url")
            return found


def record(app: App, *events: Any, **how: Any) -> Any:
    first, *more = events
    with app.transaction() as connection:
        return app.record(first, *more, via=connection, **how)


def tables(app: App) -> set[str]:
    with app.transaction() as connection:
        rows = connection.execute(
            f"select table_name from information_schema.tables where table_schema = '{app.log.place.schema}'"
            if app.log.place.url.startswith("postgresql")
            else "select name from sqlite_master where type = 'table'"
        ).fetchall()
    return {name for (name,) in rows}


MIGRATIONS = [
    "0001_log",
    "0002_subscriptions",
    "0003_snapshots",
    "0004_inbox",
    "0005_projections",
    "0006_timers_and_processes",
    "0007_seals",
    "0008_personal_keys",
    "0009_looking",
    "0010_builds_and_undoing",
    "0011_marks",
]


def test_migrating_is_idempotent(url: str, schema: str) -> None:
    app = App("migrating", url, schema=schema)
    assert app.operations.pending_migrations() == MIGRATIONS
    with pytest.raises(NotMigrated, match="ensue migrate"):
        app.operations.owner()
    assert app.migrate() == MIGRATIONS
    record(app, Noted(text="stays"))
    before = tables(app)
    assert app.migrate() == []
    assert App("migrating", url, schema=schema).migrate() == []
    assert App("migrating", url, schema=schema, migrate=True).migrate() == []
    assert tables(app) == before
    assert app.operations.pending_migrations() == []
    assert app.operations.owner() == "migrating"
    assert [each.event.text for each in app.read()] == ["stays"]


@pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
def test_many_may_migrate_at_once(url: str, schema: str) -> None:
    with ThreadPoolExecutor(6) as pool:
        applied = list(pool.map(lambda _: App("migrating", url, schema=schema).migrate(), range(6)))
    assert sorted(map(len, applied)) == [0, 0, 0, 0, 0, len(MIGRATIONS)]
    record(App("migrating", url, schema=schema), Noted(text="one"))


@pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
def test_many_may_use_a_log_first_at_once(url: str, schema: str) -> None:
    with ThreadPoolExecutor(6) as pool:
        receipts = list(
            pool.map(
                lambda number: record(App("migrating", url, schema=schema, migrate=True), Noted(text=str(number))),
                range(6),
            )
        )
    assert sorted(receipt.position for receipt in receipts) == [1, 2, 3, 4, 5, 6]
    assert len(list(App("migrating", url, schema=schema).read())) == 6


def test_many_processes_may_migrate_at_once(tmp_path: Path) -> None:
    """Threads share their locks on a file; processes do not."""
    program = f"""
import sys
from ensue import App
app = App("migrating", "sqlite:///{tmp_path}/log.db")
print("ready", flush=True)
sys.stdin.readline()
print(len(app.migrate()), flush=True)
"""
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    for each in processes:
        assert each.stdout
        assert each.stdout.readline() == "ready\n"
    for each in processes:
        assert each.stdin
        each.stdin.write("go\n")
        each.stdin.flush()
    assert sorted(each.communicate()[0] for each in processes) == ["0\n", "0\n", f"{len(MIGRATIONS)}\n"]
    assert [each.returncode for each in processes] == [0, 0, 0]


def test_one_log_is_one_applications(url: str, schema: str) -> None:
    App("migrating", url, schema=schema).migrate()
    stranger = App("stranger", url, schema=schema)
    where = re.escape(stranger.log.place.shown)
    with pytest.raises(WrongDatabase, match=f"^the log in {where} belongs to migrating, not to 'stranger'"):
        stranger.migrate()
    with pytest.raises(WrongDatabase, match=f"^the log in {where} belongs to migrating"):
        stranger.run()
    with pytest.raises(WrongDatabase, match="belongs to migrating"):
        record(App("stranger", url, schema=schema, migrate=True), Noted(text="one"))
    assert list(App("migrating", url, schema=schema).read()) == []
    other = App("stranger", url, schema=f"{schema}_2")
    other.migrate()
    record(other, Noted(text="its own"))
    assert list(App("migrating", url, schema=schema).read()) == []


def test_a_server_that_is_too_old_is_told(postgres_url: str, schema: str, monkeypatch: pytest.MonkeyPatch) -> None:
    app = App("migrating", postgres_url, schema=schema)
    monkeypatch.setattr("ensue.log.migrating.OLDEST_POSTGRES", 99)
    where = re.escape(app.log.place.shown)
    with pytest.raises(NotMigrated, match=rf"^PostgreSQL 1\d\..* is too old for the log in {where}: ensue needs 99 or"):
        app.migrate()
    monkeypatch.undo()
    assert app.migrate() == MIGRATIONS


@pytest.mark.parametrize("name", ["log", "record", "events", "data", "position", "e", "x", "type", "a" * 40, "_", "t1"])
def test_a_log_may_have_any_simple_name(url: str, name: str) -> None:
    """Also one that the SQL of the log uses for something else."""
    app = App("migrating", url, schema=name)
    app.migrate()
    try:
        record(app, Counted(number=1), Counted(number=2), stream="s", expected=0, dedupe="k")
        assert record(app, Counted(number=1), stream="s", expected=0, dedupe="k").duplicate
        assert [(each.event.number, each.version) for each in app.read(stream="s", types=(Counted,))] == [
            (1, 1),
            (2, 2),
        ]
        assert app.operations.horizon() == 2
        assert app.operations.owner() == "migrating"
    finally:
        if url.startswith("postgresql"):
            with psycopg.connect(url) as connection:
                connection.execute(f"drop schema {name} cascade")


@pytest.mark.parametrize("name", ["", "Upper", "with space", "a-b", "1a", "a" * 41, 'a"b', "a;b", "é", "a.b"])
def test_what_is_no_simple_name_is_refused(url: str, name: str) -> None:
    with pytest.raises(DeclarationError, match="lower-case letters"):
        App("migrating", url, schema=name)


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("postgresql://localhost/db", "order"),
        ("postgresql://localhost/db", "user"),
        ("postgresql://localhost/db", "table"),
        ("postgresql://localhost/db", "pg_log"),
        ("sqlite:///log.db", "sqlite"),
        ("memory://log", "sqlite_x"),
    ],
)
def test_a_name_that_the_database_keeps_for_itself_is_refused(place: str, name: str) -> None:
    with pytest.raises(DeclarationError, match="for itself"):
        App("migrating", place, schema=name)


def test_a_log_of_a_newer_release_is_left_alone(url: str, schema: str) -> None:
    app = App("migrating", url, schema=schema)
    app.migrate()
    table = f"{schema}.migrations" if url.startswith("postgresql") else f"{schema}_migrations"
    with app.transaction() as connection:
        connection.execute(f"insert into {table} (name) values ('9999_future')")
    with pytest.raises(NotMigrated, match=r"newer release of ensue \(9999_future\): upgrade"):
        app.migrate()
    with pytest.raises(NotMigrated, match="newer release"):
        record(App("migrating", url, schema=schema, migrate=True), Noted(text="one"))
    assert list(app.read()) == []


def test_a_log_of_an_older_release_is_brought_up_to_date(url: str, schema: str) -> None:
    app = App("migrating", url, schema=schema)
    scripts = app.log.dialect.sql.scripts("migrations")
    with app.transaction() as connection:
        for query in app.log.dialect.prepare():
            connection.execute(query.source)
        connection.execute(app.log.dialect.sql["create_migrations"].source)
        for query in scripts["0001_log"]:
            connection.execute(query.source)
        table = f"{schema}.migrations" if url.startswith("postgresql") else f"{schema}_migrations"
        connection.execute(f"insert into {table} (name) values ('0001_log')")
    assert app.operations.pending_migrations() == MIGRATIONS[1:]
    assert app.migrate() == MIGRATIONS[1:]
    record(app, Noted(text="one"))
    fresh = App("migrating", url, schema=f"{schema}_2")
    fresh.migrate()
    assert {name.removeprefix(f"{schema}_2_").removeprefix(f"{schema}_") for name in tables(fresh)} == {
        name.removeprefix(f"{schema}_2_").removeprefix(f"{schema}_") for name in tables(app)
    }


def test_migrating_does_not_disturb_who_is_recording(installed_postgres_url: str, schema: str) -> None:
    """A second `ensue migrate` at a deployment takes no lock that a writer needs, or waits for."""
    app = App("migrating", installed_postgres_url, schema=schema)
    app.migrate()
    with psycopg.connect(installed_postgres_url) as writer:
        app.record(Noted(text="slow"), via=writer)
        assert App("migrating", installed_postgres_url, schema=schema).migrate() == []
    assert len(list(app.read())) == 1


def test_a_file_is_put_into_wal_mode(tmp_path: Path) -> None:
    App("migrating", f"sqlite:///{tmp_path}/log.db").migrate()
    with closing(sqlite3.connect(tmp_path / "log.db")) as connection:
        assert connection.execute("pragma journal_mode").fetchone() == ("wal",)
