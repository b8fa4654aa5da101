"""Several who record at once: who waits for whom, and what comes of it."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ensue import NO_STREAM, App, DomainEvent, Receipt
from ensue.errors import VersionConflict
from tests.patience import PATIENCE, until_sync


class Noted(DomainEvent, name="test.together.noted"):
    text: str


ONE, TWO = Noted(text="one"), Noted(text="two")


class Pair:
    """Two connections to one log; the second is used by a thread of its own."""

    def __init__(self, app: App, first: Any, second: Any, waits: Callable[[], bool]) -> None:
        self.app = app
        self.first = first
        self.second = second
        self._waits = waits
        self._pool = ThreadPoolExecutor(1)

    def second_records(self, **how: Any) -> Future[Receipt]:
        """Let the second record and commit; return when it waits for the first, or is through."""
        begun = threading.Event()

        def work() -> Receipt:
            begun.set()
            receipt: Receipt = self.app.record(TWO, via=self.second, **how)
            self.second.commit()
            return receipt

        future = self._pool.submit(work)
        assert begun.wait(PATIENCE)
        until_sync(lambda: future.done() or self._waits(), "the second neither waits nor is through")
        return future

    def close(self) -> None:
        self.first.close()
        self._pool.shutdown()
        self.second.close()


@pytest.fixture(params=["sqlite3", "sqlite3-deferred", "psycopg"])
def pair(request: pytest.FixtureRequest, tmp_path: Path, schema: str) -> Iterator[Pair]:
    if request.param == "psycopg":
        url = request.getfixturevalue("postgres_url")
        app = App("together", url, schema=schema)
        app.migrate()
        with psycopg.connect(url, autocommit=True) as observer:
            writers = psycopg.connect(url), psycopg.connect(url)
            waiting = f"select count(*) from pg_locks where not granted and pid = {writers[1].info.backend_pid}"
            with closing(Pair(app, *writers, lambda: observer.execute(waiting).fetchone() != (0,))) as pair:
                yield pair
        return
    app = App("together", f"sqlite:///{tmp_path / 'log.db'}", schema=schema)
    app.migrate()
    deferred = request.param == "sqlite3-deferred"
    first, second = (
        sqlite3.connect(
            tmp_path / "log.db",
            timeout=PATIENCE,
            isolation_level=None if deferred else "DEFERRED",
            check_same_thread=False,
        )
        for _ in range(2)
    )
    if deferred:  # as Django does it
        first.execute("begin")
        second.execute("begin")
    with closing(Pair(app, first, second, lambda: True)) as pair:  # SQLite does not tell who waits
        yield pair


def texts(app: App) -> list[tuple[str, int | None]]:
    return [(each.event.text, each.version) for each in app.read()]


def test_writers_of_one_stream_queue_up(pair: Pair) -> None:
    pair.app.record(ONE, via=pair.first, stream="s")
    second = pair.second_records(stream="s")
    assert not second.done()
    pair.first.commit()
    assert second.result(PATIENCE).version == 2
    assert texts(pair.app) == [("one", 1), ("two", 2)]


def test_of_two_that_expect_the_same_the_later_one_is_told(pair: Pair) -> None:
    pair.app.record(ONE, via=pair.first, stream="it's", expected=NO_STREAM)
    second = pair.second_records(stream="it's", expected=NO_STREAM)
    assert not second.done()
    pair.first.commit()
    with pytest.raises(VersionConflict) as caught:
        second.result(PATIENCE)
    assert (caught.value.stream, caught.value.expected) == ("it's", 0)
    assert texts(pair.app) == [("one", 1)]


def test_of_two_that_expect_the_same_the_later_one_succeeds_if_the_first_rolls_back(pair: Pair) -> None:
    pair.app.record(ONE, via=pair.first, stream="s", expected=NO_STREAM)
    second = pair.second_records(stream="s", expected=NO_STREAM)
    pair.first.rollback()
    assert second.result(PATIENCE).version == 1
    assert texts(pair.app) == [("two", 1)]


def test_of_two_with_one_dedupe_key_the_later_one_gets_the_first_receipt(pair: Pair) -> None:
    first = pair.app.record(ONE, via=pair.first, dedupe="k")
    second = pair.second_records(dedupe="k")
    assert not second.done()
    pair.first.commit()
    receipt = second.result(PATIENCE)
    assert receipt.duplicate
    assert receipt.ids == first.ids
    assert texts(pair.app) == [("one", None)]


def test_of_two_with_one_dedupe_key_the_later_one_records_if_the_first_rolls_back(pair: Pair) -> None:
    pair.app.record(ONE, via=pair.first, dedupe="k")
    second = pair.second_records(dedupe="k")
    pair.first.rollback()
    assert not second.result(PATIENCE).duplicate
    assert texts(pair.app) == [("two", None)]


@pytest.mark.parametrize("pair", ["psycopg"], indirect=True)
@pytest.mark.parametrize(
    "how", [{}, {"stream": "other"}, {"stream": "other", "expected": 0}, {"dedupe": "other"}], ids=str
)
def test_others_do_not_wait_at_all(pair: Pair, how: dict[str, Any]) -> None:
    pair.app.record(ONE, via=pair.first, stream="s", dedupe="k")
    assert pair.second_records(**how).result(PATIENCE).position == 2
    pair.first.commit()
    assert [text for text, _ in texts(pair.app)] == ["one", "two"]
