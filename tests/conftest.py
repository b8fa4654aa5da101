"""What all tests share."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.servers import NoServer, OwnPostgres, fresh_database, installed_postgres, missing, shared_postgres

MEMORY = "/dev/shm"
ROOM = 8 * 2**30
"""Bytes that must be free in memory, for the files of the tests to be there."""


def pytest_configure() -> None:
    """Keep all temporary files in memory where there is room: SQLite waits for the disk at every commit."""
    if "TMPDIR" not in os.environ and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM:
        os.environ["TMPDIR"] = tempfile.tempdir = MEMORY


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None]:
    """Skip, or fail where CI=true, when a fixture finds no server."""
    try:
        return (yield)
    except NoServer as reason:
        missing(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None]:
    """Likewise when the test itself finds none."""
    try:
        return (yield)
    except NoServer as reason:
        missing(reason)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Yield the URL of a database on a real server, made for this run and dropped at its end."""
    with shared_postgres() as server, fresh_database(server) as url:
        yield url


@pytest.fixture(scope="session")
def installed_postgres_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield that of a database on the server of this machine, if there is one: for what depends on the release."""
    if (server := installed_postgres()) is None:
        url: str = request.getfixturevalue("postgres_url")
        yield url
    else:
        with fresh_database(server) as url:
            yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a database of each kind, for what has to work on both."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/log.db"
    found: str = request.getfixturevalue("postgres_url")
    return found


@pytest.fixture
def schema() -> str:
    """Name a PostgreSQL schema, or SQLite table prefix, that no other test uses."""
    return f"t_{secrets.token_hex(6)}"


@pytest.fixture
def own_postgres() -> Iterator[OwnPostgres]:
    """Yield a private server that the test may stop, restart and crash."""
    with OwnPostgres() as server:
        yield server
