"""The grants that the documentation proposes suffice, and go no further."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from ensue import App, DomainEvent, Park
from ensue.seals import SigningKey
from ensue.subscriptions.operating import Filter
from tests.patience import until
from tests.servers import OwnPostgres

PAGE = Path(__file__).parent.parent / "docs" / "how-to" / "run-in-production.md"


class Signed(DomainEvent, key="name", name="test.permissions.signed"):
    name: str


class Later(DomainEvent, name="test.permissions.later"):
    pass


@pytest.fixture
def server(own_postgres: OwnPostgres) -> OwnPostgres:
    """Make a log, its owner being postgres, and the two roles of the page."""
    app(own_postgres, "postgres").migrate()
    grants = re.search(r"```sql\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert grants
    with psycopg.connect(own_postgres.url, autocommit=True) as connection:
        connection.execute("create role shop_web login; create role shop_worker login")
        connection.execute(grants[1].encode())
    return own_postgres


def app(server: OwnPostgres, role: str) -> App:
    app = App("permissions", server.url.replace("postgres@", f"{role}@"))

    @app.on(Signed, name="greet")
    def greet(event: Signed) -> Park | None:
        return Park("it is bad") if event.name == "bad" else None

    return app


def test_a_role_that_prunes_needs_no_more_than_the_page_says(server: OwnPostgres) -> None:
    grants = re.search(r"```sql\n(.*?)```", (PAGE.parent / "retention.md").read_text(), re.DOTALL)
    assert grants
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("create role shop_pruner login")
        connection.execute(grants[1].encode())
    web, pruner = app(server, "shop_web"), app(server, "shop_pruner")
    with web.transaction() as connection:
        web.record(Later(), Later(), via=connection)
    app(server, "postgres").operations.retire("greet", actor="test", reason="it has not passed them")
    assert pruner.history.prune(datetime(2100, 1, 1, tzinfo=UTC), actor="test").events == 1
    assert [each.events for each in pruner.history.pruned()] == [1]
    with pytest.raises(psycopg.errors.InsufficientPrivilege), pruner.transaction() as connection:
        connection.execute("update ensue.events set data = '{}'")


def test_a_role_that_works_can_seal_and_one_that_prunes_can_prune_what_is_sealed(server: OwnPostgres) -> None:
    grants = re.search(r"```sql\n(.*?)```", (PAGE.parent / "retention.md").read_text(), re.DOTALL)
    assert grants
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("create role shop_pruner login")
        connection.execute(grants[1].encode())
    worker, pruner = app(server, "shop_worker"), app(server, "shop_pruner")
    app(server, "postgres").operations.retire("greet", actor="test", reason="it has not passed them")
    with worker.transaction() as connection:
        worker.record(Later(), Later(), via=connection)
    key = SigningKey.make("permissions")
    worker.seals.seal(key)
    assert pruner.history.prune(datetime(2100, 1, 1, tzinfo=UTC), actor="test").events == 1
    worker.seals.seal(key)
    told = app(server, "shop_web").seals.verify(keys=[key.public])
    assert (told.holds, told.pruned, told.size) == (True, 1, 3)
    for sql in ("update ensue.seal_checkpoints set note = ''", "delete from ensue.seal_tiles"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege), worker.transaction() as connection:
            connection.execute(sql)


async def test_a_process_that_records_and_a_worker_can_do_their_part(server: OwnPostgres) -> None:
    web, worker = app(server, "shop_web"), app(server, "shop_worker")

    @worker.on(Later)
    def another(event: Later) -> None:
        """Be registered by the worker itself."""

    with web.transaction() as connection:
        web.record(Signed(name="good"), Signed(name="bad"), via=connection, stream="s", dedupe="once")
    with web.transaction() as connection:
        assert web.record(Signed(name="good"), via=connection, dedupe="once").duplicate
    assert len(list(web.read())) == 2
    operations = worker.operations
    async with worker.running(lease=1.0):
        await until(operations.dead_letters)
        await asyncio.to_thread(operations.decide, Filter(), "skip", actor="test", reason="test")
        await until(lambda: not operations.dead_letters(Filter(waiting_only=False)))
        await asyncio.to_thread(operations.repartition, "greet", 2, actor="test", reason="test")
        await asyncio.to_thread(operations.pause, "greet", actor="test", reason="test")
        await asyncio.to_thread(operations.resume, "greet", actor="test", reason="test")
        await asyncio.to_thread(operations.retire, "another", actor="test", reason="test")
    assert operations.audit()[0].action == "retire"


@pytest.mark.parametrize("role", ["shop_web", "shop_worker"])
@pytest.mark.parametrize(
    "sql", ["update ensue.events set data = '{}'", "delete from ensue.events", "truncate ensue.audit"]
)
def test_nobody_but_the_owner_changes_what_happened(server: OwnPostgres, role: str, sql: str) -> None:
    with (
        pytest.raises(psycopg.errors.InsufficientPrivilege),
        app(server, role).transaction() as connection,
    ):
        connection.execute(sql)
