"""The servers that other tests rely on do what they say."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from tests.servers import NoServer, OwnPostgres, Stop, in_database, missing

ROOT = Path(__file__).parent.parent


def count(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("select count(*) from kept").fetchone()
    assert row is not None
    return int(row[0])


def fill(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("create table kept as select generate_series(1, 1000)")


def test_the_shared_database_is_utf8_and_ours(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("show server_encoding").fetchone() == ("UTF8",)
        assert "ensue_test_" in connection.info.dbname


def test_a_schema_name_needs_no_quotes(schema: str) -> None:
    assert schema.isidentifier()


@pytest.mark.parametrize("how", [Stop.FAST, Stop.IMMEDIATE, Stop.CRASH])
def test_committed_rows_survive_any_end(own_postgres: OwnPostgres, how: Stop) -> None:
    fill(own_postgres.url)
    with psycopg.connect(own_postgres.url) as held:
        own_postgres.stop(how)
        assert not own_postgres.running
        with pytest.raises(psycopg.OperationalError):
            held.execute("select 1")
    url = own_postgres.url
    own_postgres.start()
    assert own_postgres.url == url
    assert count(url) == 1000


def test_dump_and_restore(own_postgres: OwnPostgres) -> None:
    fill(own_postgres.url)
    dump = own_postgres.command("pg_dump", "--format=custom", own_postgres.url)
    with psycopg.connect(own_postgres.url, autocommit=True) as connection:
        connection.execute("create database restored")
    restored = in_database(own_postgres.url, "restored")
    own_postgres.command("pg_restore", "--dbname", restored, input=dump)
    assert count(restored) == 1000


def test_nothing_stays_behind() -> None:
    with OwnPostgres() as server:
        folder, url = server._folder, server.url
        assert folder is not None
        assert folder.exists()
    assert not folder.exists()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url, connect_timeout=3)


@pytest.mark.usefixtures("own_postgres")  # skips if there is none
def test_nothing_stays_behind_even_when_the_tests_are_killed() -> None:
    script = "from tests.servers import *; p = OwnPostgres(); p.start(); print(p._folder, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as tests:
        assert tests.stdout is not None
        folder = Path(tests.stdout.readline().strip())
        assert folder.exists()
        tests.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while folder.exists():
        assert time.monotonic() < deadline, "the server's folder is still there"
        time.sleep(0.05)


def test_a_missing_server_skips_but_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="none here"):
        missing(NoServer("none here"))
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="none here"):
        missing(NoServer("none here"))
