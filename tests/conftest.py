"""What all tests share."""

from __future__ import annotations

import gc
import itertools
import secrets
from collections.abc import Generator, Iterator

import pytest

from tests.servers import NoServer, OwnPostgres, fresh_database, missing, shared_postgres


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


_finished = itertools.count(1)


@pytest.fixture(autouse=True)
def connections_of_earlier_tests() -> Iterator[None]:
    """Let applications that nobody has any more close their connections: a server takes a hundred.

    An application is freed by the collector of cycles, which rarely looks at old objects where there are many.
    """
    yield
    if next(_finished) % 25 == 0:
        gc.collect()


@pytest.fixture
def schema() -> str:
    """Name a PostgreSQL schema, or SQLite table prefix, that no other test uses."""
    return f"t_{secrets.token_hex(6)}"


@pytest.fixture
def own_postgres() -> Iterator[OwnPostgres]:
    """Yield a private server that the test may stop, restart and crash."""
    with OwnPostgres() as server:
        yield server
