"""What handlers see and say: order, concurrency, outcomes, failures, and how a subscription begins and ends."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import re
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import psycopg
import pytest

from ensue import App, Backoff, Delivery, DomainEvent, Done, Park, Recorded, Retry, context, errors
from ensue.subscriptions import Worker
from ensue.subscriptions.operating import Decision, Filter
from ensue.subscriptions.runner import Runner
from tests.naming import named
from tests.patience import until

LEASE = 1.0
SOON = Backoff(first=0.01, most=0.02)


class Step(DomainEvent, key="key", name="test.delivery.step"):
    key: str
    n: int


class Loose(DomainEvent, name="test.delivery.loose"):
    """It has no key, hence no order to keep."""

    n: int


class Other(DomainEvent, name="test.delivery.other"):
    n: int


@pytest.fixture(params=["sqlite", "memory", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path, schema: str) -> str:
    match request.param:
        case "sqlite":
            return f"sqlite:///{tmp_path / 'log.db'}"
        case "memory":
            return f"memory://{schema}"
        case _:
            found: str = request.getfixturevalue("postgres_url")
            return found


@pytest.fixture
def app(url: str, schema: str) -> App:
    app = App("delivery", url, schema=schema)
    app.migrate()
    return app


def record(app: App, *events: DomainEvent) -> list[int]:
    with app.transaction() as connection:
        return list(app.record(*events, via=connection).positions)


def record_steps(app: App, keys: str, numbers: range) -> None:
    """Record one event per number and key, in the order of the numbers."""
    record(app, *(Step(key=key, n=n) for n in numbers for key in keys))


def by_key(steps: list[Step]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for step in steps:
        found[step.key].append(step.n)
    return dict(found)


def run_sql(app: App, sql: str) -> None:
    """Run SQL that is written for the tables of the log."""
    table = f"{app.log.place.schema}." if app.log.place.url.startswith("postgres") else f"{app.log.place.schema}_"
    with app.transaction() as connection:
        connection.execute(sql.replace("ensue_", table))


# --------------------------------------------------------------------------------------------- what is called


async def test_handlers_are_sync_or_async_functions_or_objects(app: App) -> None:
    seen: dict[str, Any] = {}

    @app.on(Loose)
    async def plain(event: Loose) -> None:
        seen["plain"] = event.n

    @app.on(Loose)
    async def told(event: Loose, delivery: Delivery) -> Done:
        seen["told"] = delivery
        return Done()

    @app.on(Loose)
    def sync(event: Loose) -> None:
        seen["sync"] = event.n, threading.current_thread() is not threading.main_thread()

    @app.on(Loose)
    def sync_told(event: Loose, delivery: Delivery) -> None:
        seen["sync_told"] = delivery

    class Counter:
        async def __call__(self, event: Loose) -> None:
            seen["object"] = event.n

        def method(self, event: Loose) -> None:
            seen["method"] = event.n

    app.on(Loose, name="object")(Counter())
    app.on(Loose)(Counter().method)

    async with app.running():
        before = datetime.now(UTC) - timedelta(seconds=5)
        with app.transaction() as connection, context(correlation_id="request 7", actor="ann"):
            receipt = app.record(Loose(n=7), via=connection)
        await until(lambda: len(seen) == 6)

    assert seen["plain"] == seen["object"] == seen["method"] == 7
    assert seen["sync"] == (7, True)
    delivery = seen["told"]
    assert (delivery.id, delivery.position, delivery.attempt) == (receipt.id, receipt.position, 1)
    assert delivery.idempotency_key == f"told/{receipt.id}"
    assert delivery.correlation_id == "request 7"
    assert delivery.subscription == "told"
    assert delivery.recorded.event == Loose(n=7)
    assert delivery.recorded.metadata.actor == "ann"
    assert before < delivery.recorded_at < datetime.now(UTC) + timedelta(seconds=5)
    assert seen["sync_told"].idempotency_key == f"sync_told/{receipt.id}"


@pytest.mark.parametrize("colour", ["async", "sync"])
async def test_what_a_handler_records_is_caused_by_what_it_handles(app: App, colour: Literal["async", "sync"]) -> None:
    handled: list[Recorded[Any]] = []

    if colour == "async":

        @app.on(Loose)
        async def answer(event: Loose) -> None:
            record(app, Other(n=event.n))
    else:

        @app.on(Loose)
        def answer_sync(event: Loose) -> None:
            record(app, Other(n=event.n))

    @app.on(Other)
    async def see(event: Other, delivery: Delivery) -> None:
        handled.append(delivery.recorded)

    async with app.running():
        with app.transaction() as connection, context(correlation_id="request 8", traceparent="00-a-b-01"):
            receipt = app.record(Loose(n=1), via=connection)
        await until(lambda: handled)
    assert handled[0].correlation_id == "request 8"
    assert handled[0].causation_id == str(receipt.id)
    assert handled[0].metadata.traceparent == "00-a-b-01"


async def test_one_handler_for_several_types_sees_them_in_one_order(app: App) -> None:
    seen: list[DomainEvent] = []

    @app.on(Loose, Other, start="beginning", concurrency=1)
    async def both(event: DomainEvent) -> None:
        seen.append(event)

    events = [Loose(n=1), Other(n=2), Step(key="not wanted", n=3), Other(n=4), Loose(n=5)]
    record(app, *events)
    async with app.running():
        await until(lambda: len(seen) == 4)
    assert seen == [event for event in events if not isinstance(event, Step)]


# ------------------------------------------------------------------------------------------ order, concurrency


@pytest.mark.parametrize("colour", ["async", "sync"])
async def test_a_key_keeps_its_order_while_keys_run_side_by_side(app: App, colour: Literal["async", "sync"]) -> None:
    seen: list[Step] = []
    busy: set[str] = set()
    together: set[frozenset[str]] = set()
    rng = iter(range(10_000))

    def begin(event: Step) -> None:
        assert event.key not in busy
        busy.add(event.key)
        together.add(frozenset(busy))

    def end(event: Step) -> None:
        busy.remove(event.key)
        seen.append(event)

    if colour == "async":

        @app.on(Step, start="beginning", concurrency=4)
        async def handle(event: Step) -> None:
            begin(event)
            for _ in range(next(rng) % 3):
                await asyncio.sleep(0)
            await asyncio.sleep(0.001 * (next(rng) % 3))
            end(event)
    else:

        @app.on(Step, start="beginning", concurrency=4)
        def handle_sync(event: Step) -> None:
            begin(event)
            time.sleep(0.001 * (next(rng) % 3))
            end(event)

    record_steps(app, "abcdefgh", range(20))
    async with app.running():
        await until(lambda: len(seen) == 160)
        record_steps(app, "abcdefgh", range(20, 30))
        await until(lambda: len(seen) == 240)
    assert by_key(seen) == {key: list(range(30)) for key in "abcdefgh"}
    assert max(map(len, together)) == 4


async def test_a_slow_key_holds_nobody_up(app: App) -> None:
    seen: list[Step] = []
    gate = asyncio.Event()

    @app.on(Step, start="beginning", concurrency=2)
    async def handle(event: Step) -> None:
        if event.key == "slow":
            await gate.wait()
        seen.append(event)

    record(app, Step(key="slow", n=0), Step(key="slow", n=1))
    record_steps(app, "abc", range(50))
    async with app.running():
        await until(lambda: len(seen) == 150)
        assert "slow" not in by_key(seen)
        gate.set()
        await until(lambda: len(seen) == 152)
    assert by_key(seen)["slow"] == [0, 1]


async def test_a_blocking_handler_does_not_hold_up_an_async_one(app: App) -> None:
    gate, seen = threading.Event(), []

    @app.on(Loose, start="beginning")
    def block(event: Loose) -> None:
        assert gate.wait(20)

    @app.on(Loose, start="beginning")
    async def flow(event: Loose) -> None:
        seen.append(event.n)

    record(app, *(Loose(n=n) for n in range(30)))
    async with app.running():
        await until(lambda: len(seen) == 30)
        gate.set()


async def test_what_falls_behind_the_window_catches_up(app: App) -> None:
    """A stuck event keeps a subscription's window full: it leaves the tail, later reads by itself, and joins again."""
    fast: list[int] = []
    slow: list[int] = []
    gate = asyncio.Event()

    @app.on(Loose)
    async def keeps_up(event: Loose) -> None:
        fast.append(event.n)

    @app.on(Loose, concurrency=3)
    async def falls_behind(event: Loose) -> None:
        if event.n == 0:
            await gate.wait()
        slow.append(event.n)

    async with app.running():
        for first in range(0, 5000, 500):
            record(app, *(Loose(n=n) for n in range(first, first + 500)))
        await until(lambda: len(fast) == 5000)
        await until(lambda: len(slow) >= 900)
        assert len(slow) < 3000, "the window has no bound"
        gate.set()
        await until(lambda: len(slow) == 5000)
        record(app, Loose(n=5000))
        await until(lambda: len(slow) == len(fast) == 5001)
    assert sorted(slow) == sorted(fast) == list(range(5001))


# -------------------------------------------------------------------------------------------- names and starts


async def test_where_a_subscription_starts(app: App) -> None:
    seen: dict[str, list[int]] = defaultdict(list)

    def subscribe(name: str, start: Any) -> None:
        @app.on(Loose, name=name, start=start, concurrency=1)
        async def handle(event: Loose) -> None:
            seen[name].append(event.n)

    first = record(app, *(Loose(n=n) for n in range(3)))
    middle = record(app, *(Loose(n=n) for n in range(3, 6)))
    moment = next(iter(app.read(after=middle[-1] - 1))).recorded_at
    await until(lambda: datetime.now(UTC) > moment + timedelta(milliseconds=2))
    (later,) = record(app, Loose(n=6))
    recorded_at = next(iter(app.read(after=later - 1))).recorded_at
    subscribe("from the beginning", "beginning")
    subscribe("from now", "now")
    subscribe("from a position", middle[1])
    subscribe("from zero", 0)
    subscribe("from a far position", later + 1_000_000)
    subscribe("from a moment", recorded_at)
    subscribe("from a moment between", recorded_at - timedelta(milliseconds=1))
    subscribe("from long ago", datetime(2000, 1, 1, tzinfo=UTC))
    subscribe("from a moment not yet", datetime.now(UTC) + timedelta(days=1))
    async with app.running():
        record(app, Loose(n=7))
        await until(lambda: all(7 in seen[name] for name in app.subscriptions if "far" not in name))
    assert first
    everything = list(range(8))
    assert dict(seen) == {
        "from the beginning": everything,
        "from zero": everything,
        "from long ago": everything,
        "from now": [7],
        "from a moment not yet": [7],
        "from a position": everything[4:],
        "from a moment": [6, 7],
        "from a moment between": [6, 7],
    }


async def test_a_start_in_time_waits_for_transactions_that_are_still_open(postgres_url: str, schema: str) -> None:
    """The first event since then that is visible is not the first: one of a smaller position is still on its way."""
    app = App("delivery", postgres_url, schema=schema)
    app.migrate()
    seen: list[int] = []
    with psycopg.connect(postgres_url) as slow:
        app.record(Loose(n=1), via=slow)
        record(app, Loose(n=2))

        @app.on(Loose, start=datetime(2000, 1, 1, tzinfo=UTC))
        async def handle(event: Loose) -> None:
            seen.append(event.n)

        app.migrate()
        slow.commit()
    async with app.running():
        await until(lambda: sorted(seen) == [1, 2])


async def test_now_is_when_it_is_registered(app: App) -> None:
    seen: list[int] = []
    record(app, Loose(n=1))

    @app.on(Loose)
    async def handle(event: Loose) -> None:
        seen.append(event.n)

    app.migrate()
    record(app, Loose(n=2))
    async with app.running():
        await until(lambda: seen)
    assert seen == [2]


async def test_a_subscription_goes_on_where_it_was(app: App, url: str, schema: str) -> None:
    seen: list[int] = []

    @app.on(Loose, start="beginning", name="kept")
    async def first(event: Loose) -> None:
        seen.append(event.n)

    record(app, Loose(n=1))
    async with app.running():
        await until(lambda: seen == [1])
    record(app, Loose(n=2))

    again = App("delivery", url, schema=schema)

    @again.on(Loose, start="beginning", name="kept")
    async def renamed_function(event: Loose) -> None:
        seen.append(event.n)

    async with again.running():
        await until(lambda: seen == [1, 2])


def declare(app: App, name: str, *types: type[DomainEvent]) -> None:
    @app.on(*(types or (Loose,)), name=name)
    async def handle(event: DomainEvent) -> None: ...


async def test_a_renamed_subscription_is_refused(app: App, url: str, schema: str) -> None:
    declare(app, "old")
    app.migrate()
    renamed = App("delivery", url, schema=schema)
    declare(renamed, "new")
    with pytest.raises(errors.RenamedSubscription, match=r"'new' is new and 'old' is declared no more.*name='old'"):
        renamed.migrate()
    with pytest.raises(errors.RenamedSubscription):
        async with renamed.running():
            raise AssertionError("it runs")
    assert [each.subscription for each in app.operations.standings()] == ["old"]

    app.operations.retire("old", actor="ann", reason="renamed on purpose")
    renamed.migrate()
    assert [each.subscription for each in app.operations.standings()] == ["new"]


async def test_a_vanished_subscription_is_reported_and_stays(
    app: App, url: str, schema: str, caplog: pytest.LogCaptureFixture
) -> None:
    declare(app, "gone", Other)
    declare(app, "stays", Loose)
    app.migrate()
    smaller = App("delivery", url, schema=schema)
    declare(smaller, "stays", Loose)
    with caplog.at_level(logging.WARNING, "ensue"):
        async with smaller.running() as worker:
            assert worker.vanished == ["gone"]
    assert "subscription gone is in the log but nobody declares it" in caplog.text
    assert [each.subscription for each in app.operations.standings()] == ["gone", "stays"]


def test_two_subscriptions_need_two_names(app: App) -> None:
    declare(app, "same")
    with pytest.raises(errors.DuplicateName, match="two subscriptions are called 'same'"):
        declare(app, "same", Other)


@pytest.mark.parametrize(
    "options",
    [
        {"concurrency": 0},
        {"partitions": 0},
        {"partitions": 1025},
        {"timeout": 0},
        {"timeout": "soon"},
        {"start": "yesterday"},
        {"retry": 5},
        {"retry": Backoff},
        {"start": datetime(2026, 1, 1)},  # noqa: DTZ001 that is the point
        {"start": datetime(2026, 1, 1, tzinfo=UTC).date()},
        {"start": 1.5},
        {"start": True},
        {"start": None},
        {"start": -5},
        {"concurrency": 2.5},
        {"concurrency": "3"},
        {"concurrency": True},
        {"partitions": 1.5},
        {"timeout": float("nan")},
        {"timeout": object()},
        {"name": "x" * 201},
        {"name": "two\nlines"},
        {"name": 5},
        {"retries": 5},
    ],
    ids=named,
)
def test_what_cannot_be_subscribed_is_refused(options: dict[str, Any]) -> None:
    """The error names the subscription and the option."""
    app = App("delivery", "memory://refused")
    ((option, _),) = options.items()
    name = re.escape(repr(options.get("name", "handle")))

    with pytest.raises(errors.DeclarationError, match=rf"^subscription {name}: .*{option}"):

        @app.on(Loose, **options)
        async def handle(event: Loose) -> None: ...

    assert not app.subscriptions


def test_a_handler_takes_one_or_two_arguments() -> None:
    app = App("delivery", "memory://refused")
    with pytest.raises(errors.DeclarationError, match="takes 3 arguments"):

        @app.on(Loose)  # type: ignore[arg-type]
        async def three(event: Loose, delivery: Delivery, more: int) -> None: ...

    with pytest.raises(errors.DeclarationError, match="takes 0 arguments"):

        @app.on(Loose)  # type: ignore[arg-type]
        async def none() -> None: ...


@pytest.mark.parametrize("how", ["on", "translate", "within"])
@pytest.mark.parametrize("wrong", [lambda event: None, int, "Loose", DomainEvent, Loose(n=1), None])
def test_what_is_no_event_class_is_refused_at_once(how: str, wrong: Any) -> None:
    """Without its parentheses a decorator is given the function, and would swallow it."""
    app = App("delivery", "memory://refused")
    declare = getattr(app, how)
    for types in ((wrong,), (Loose, wrong)):
        with pytest.raises(errors.DeclarationError, match=rf"not an event class; write @app.{how}\(EventClass\)"):
            declare(*types)
    assert not app.subscriptions


async def test_a_subscription_may_want_other_types_later(app: App, url: str, schema: str) -> None:
    declare(app, "changing", Loose)
    app.migrate()
    record(app, Loose(n=1), Other(n=2))
    changed = App("delivery", url, schema=schema)
    seen: list[Any] = []

    @changed.on(Loose, Other, name="changing")
    async def handle(event: Loose | Other) -> None:
        seen.append(event.n)

    async with changed.running():
        await until(lambda: sorted(seen) == [1, 2])


# ----------------------------------------------------------------------------------------------- what is said


async def test_a_failing_event_is_tried_again_and_its_key_waits(app: App) -> None:
    seen: list[tuple[str, int, int]] = []

    @app.on(Step, start="beginning", retry=SOON)
    async def handle(event: Step, delivery: Delivery) -> None:
        if (event.key, event.n) == ("a", 1) and delivery.attempt < 4:
            raise ValueError("not yet")
        seen.append((event.key, event.n, delivery.attempt))

    record_steps(app, "ab", range(5))
    async with app.running():
        await until(lambda: len(seen) == 10)
    assert [each for each in seen if each[0] == "a"] == [("a", n, 4 if n == 1 else 1) for n in range(5)]
    assert [each[1] for each in seen if each[0] == "b"] == [0, 1, 2, 3, 4]
    assert not app.operations.dead_letters(Filter(waiting_only=False))


async def test_a_dead_letter_keeps_its_key_waiting_and_nobody_else(app: App) -> None:
    seen: list[Step] = []
    failing = True

    @app.on(Step, start="beginning", retry=Backoff(first=0.01, most=0.02, attempts=3))
    async def handle(event: Step) -> None:
        if failing and (event.key, event.n) == ("a", 1):
            raise ValueError("the service says no")
        seen.append(event)

    record_steps(app, "ab", range(3))
    async with app.running(lease=LEASE):
        await until(lambda: app.operations.dead_letters())
        (letter,) = app.operations.dead_letters()
        record_steps(app, "ab", range(3, 6))
        await until(lambda: len(by_key(seen)["b"]) == 6)
        assert by_key(seen)["a"] == [0]
        failing = False
        assert await asyncio.to_thread(app.operations.decide, Filter(key="a"), "retry", actor="ann", reason="mended")
        await until(lambda: len(seen) == 12)
    assert by_key(seen)["a"] == list(range(6))
    assert (letter.key, letter.attempt, letter.reason) == ("a", 3, "ValueError: the service says no")
    assert letter.traceback
    assert "the service says no" in letter.traceback
    assert "in handle" in letter.traceback
    assert letter.worker
    assert not app.operations.dead_letters(Filter(waiting_only=False))


async def test_it_gives_up_after_a_time(app: App) -> None:
    attempts: list[int] = []

    @app.on(Loose, start="beginning", retry=Backoff(first=0.02, most=0.02, give_up_after=0.1))
    async def handle(event: Loose, delivery: Delivery) -> None:
        attempts.append(delivery.attempt)
        raise ValueError("no")

    record(app, Loose(n=1))
    async with app.running():
        await until(lambda: app.operations.dead_letters())
    assert attempts == list(range(1, len(attempts) + 1))
    assert len(attempts) > 1


async def test_what_a_handler_may_answer(app: App) -> None:
    """Every outcome, every kind of failure, each on a key of its own."""
    answers: dict[str, Any] = {
        "none": None,
        "done": Done(),
        "retry": Retry(after=0.01),
        "retry text": Retry(after="0.01s"),
        "park": Park("the address is wrong"),
        "garbage": {"status": "ok"},
        "false": False,
        "zero": 0,
        "exception": ValueError("broken"),
        "permanent": errors.Permanent("never"),
        "time out of its own": TimeoutError("the service is slow"),
        "cancelled": asyncio.CancelledError(),
        "exit": SystemExit(3),
        "stop": StopAsyncIteration(),
    }
    attempts: dict[str, int] = defaultdict(int)
    dead: dict[str, str] = {
        "park": "the address is wrong",
        "garbage": "returned {'status': 'ok'}",
        "false": "returned False",
        "zero": "returned 0",
        "permanent": "never",
    }

    async def handle(event: Step, delivery: Delivery) -> Any:
        attempts[event.key] += 1
        answer = None if delivery.attempt > 1 else answers[event.key]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def handle_sync(event: Step, delivery: Delivery) -> Any:
        attempts["sync " + event.key] += 1
        answer = None if delivery.attempt > 1 else answers[event.key]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    app.on(Step, start="beginning", retry=SOON)(handle)
    app.on(Step, start="beginning", retry=SOON)(handle_sync)
    record(app, *(Step(key=key, n=1) for key in answers))
    once = {"none", "done", *dead}
    async with app.running():
        await until(lambda: len(attempts) == 2 * len(answers))
        await until(lambda: sum(attempts.values()) >= 2 * (2 * len(answers) - len(once)), str(attempts))
        await until(lambda: len(app.operations.dead_letters(Filter(waiting_only=False))) == 2 * len(dead))
    expected = {key: 1 if key in once else 2 for key in answers}
    assert attempts == expected | {f"sync {key}": times for key, times in expected.items()}
    for letter in app.operations.dead_letters():
        assert dead[letter.key] in letter.reason


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


FAILURES: dict[str, Callable[[], Any]] = {
    "surrogate": lambda: ValueError("cannot open \udcff.txt"),
    "nul": lambda: ValueError("a\0b"),
    "no text": Unspeakable,
    "five megabytes": lambda: ValueError("x" * 5_000_000),
    "a group of everything": lambda: BaseExceptionGroup("all of it", [KeyboardInterrupt()]),
    "generator exit": GeneratorExit,
    "retry text": lambda: Retry(after="soon"),
    "retry none": lambda: Retry(after=None),  # type: ignore[arg-type]
    "retry nan": lambda: Retry(after=float("nan")),
    "retry for ever": lambda: Retry(after=float("inf")),
    "retry for no text": lambda: Retry(reason=5),  # type: ignore[arg-type]
    "retry in an age": lambda: Retry(after=1e15),
    "retry in many days": lambda: Retry(timedelta.max),
    "retry for a nul": lambda: Retry(after=300, reason="a\0b"),
    "park for no text": lambda: Park(reason=5),  # type: ignore[arg-type]
    "park for an error": lambda: Park(ValueError("x")),  # type: ignore[arg-type]
    "park for a nul": lambda: Park("a\0b"),
    "park for a surrogate": lambda: Park("\udcff"),
    "permanent surrogate": lambda: errors.Permanent("\udcff"),
}


async def test_whatever_a_handler_raises_or_answers_stops_nothing_else(app: App) -> None:
    """Each on a key of its own, in an async and in a sync handler; what was recorded behind all of them is handled."""
    seen: list[str] = []

    def answer(event: Step) -> Any:
        if event.key == "well":
            seen.append(event.key)
            return None
        found = FAILURES[event.key]()
        if isinstance(found, BaseException):
            raise found
        return found

    async def handle(event: Step) -> Any:
        return answer(event)

    def handle_sync(event: Step) -> Any:
        return answer(event)

    app.on(Step, start="beginning", retry=Backoff(attempts=1))(handle)
    app.on(Step, start="beginning", retry=Backoff(attempts=1))(handle_sync)
    record(app, *(Step(key=key, n=1) for key in FAILURES), Step(key="well", n=1))
    async with app.running():
        await until(lambda: len(app.operations.dead_letters(Filter(waiting_only=False))) == 2 * len(FAILURES))
        await until(lambda: len(seen) == 2)
    letters = app.operations.dead_letters(Filter(waiting_only=False, subscription="handle"))
    later = {"retry in an age", "retry in many days", "retry for a nul"}
    assert {letter.key: letter.next_step for letter in letters} == {
        key: "retry" if key in later else "wait" for key in FAILURES
    }
    assert all(letter.due_at for letter in letters if letter.next_step == "retry")
    reasons = {letter.key: letter.reason for letter in letters}
    assert reasons["surrogate"] == "ValueError: cannot open \\udcff.txt"
    assert reasons["nul"] == "ValueError: a\\x00b"
    assert reasons["no text"] == "Unspeakable: its message cannot be had, __str__ raises RuntimeError"
    assert reasons["five megabytes"].endswith("x … (5000012 characters)")
    assert reasons["retry text"].startswith("DeclarationError: 'soon' is not a duration")
    assert reasons["park for an error"] == "DeclarationError: Park(reason=ValueError('x')): a reason is text"
    assert reasons["park for a surrogate"] == "\\udcff"
    assert max(map(len, reasons.values())) < 5000


async def test_what_cannot_be_stored_of_a_failure_is_left_out(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ensue.subscriptions.verdicts.reason_to_keep", lambda text: text)
    monkeypatch.setattr(logging.getLogger("ensue"), "disabled", True)  # no report could carry what it would log
    seen: list[int] = []

    @app.on(Step, start="beginning")
    async def handle(event: Step) -> Park | None:
        seen.append(event.n)
        return Park("\udcff") if event.key == "a" else None

    record_steps(app, "ab", range(2))
    async with app.running():
        await until(lambda: app.operations.dead_letters() and seen == [0, 0, 1])
    (letter,) = app.operations.dead_letters()
    assert letter.reason == "it failed; more of it could not be stored (UnicodeEncodeError): see the worker's log"
    assert (letter.key, letter.position) == ("a", 1)


@pytest.mark.parametrize("after", [-5, timedelta(seconds=-1), 0])
async def test_a_retry_at_a_time_that_lies_back_is_at_once(app: App, after: Any) -> None:
    attempts: list[int] = []

    @app.on(Loose, start="beginning", retry=Backoff(first=300))
    async def handle(event: Loose, delivery: Delivery) -> Retry | None:
        attempts.append(delivery.attempt)
        return Retry(after) if delivery.attempt == 1 else None

    record(app, Loose(n=1))
    async with app.running():
        await until(lambda: attempts == [1, 2])


async def test_stop_iteration_of_a_sync_handler_is_a_failure(app: App) -> None:
    attempts: list[int] = []

    @app.on(Loose, start="beginning", retry=SOON)
    def handle(event: Loose, delivery: Delivery) -> None:
        attempts.append(delivery.attempt)
        if delivery.attempt == 1:
            next(iter(()))

    record(app, Loose(n=1))
    async with app.running():
        await until(lambda: attempts == [1, 2])


async def test_retry_names_its_own_time(app: App) -> None:
    at: list[float] = []

    @app.on(Loose, start="beginning", retry=Backoff(first=300))
    async def handle(event: Loose) -> Retry | None:
        at.append(time.monotonic())
        return Retry(timedelta(seconds=0.3)) if len(at) == 1 else None

    record(app, Loose(n=1))
    async with app.running():
        await until(lambda: len(at) == 2)
    assert 0.25 < at[1] - at[0] < 1.5


def test_the_waits_of_a_backoff_grow_and_are_spread() -> None:
    backoff = Backoff(first=1, most=300, factor=2)
    for attempt, longest in [(1, 1), (2, 2), (3, 4), (9, 256), (10, 300), (10_000, 300)]:
        waits = [backoff.wait(attempt) for _ in range(200)]
        assert longest / 2 <= min(waits) <= max(waits) <= longest
        assert max(waits) - min(waits) > longest / 10
    assert Backoff(attempts=1).spent(1, 0)
    assert not Backoff().spent(10_000, 3 * 86400 - 1)
    assert Backoff().spent(1, 3 * 86400)
    assert not Backoff(give_up_after=None).spent(10_000, 1e9)
    wrong: Any
    for wrong in (
        {"first": 0},
        {"first": 2, "most": 1},
        {"factor": 0.5},
        {"attempts": 0},
        {"most": "long"},
        {"first": float("nan")},
        {"factor": float("nan")},
        {"factor": None},
        {"attempts": "3"},
        {"attempts": True},
        {"give_up_after": "soon"},
    ):
        with pytest.raises(errors.DeclarationError, match=r"^Backoff\(first="):
            Backoff(**wrong)


async def test_the_wait_before_a_retry_is_the_backoff_s(app: App) -> None:
    at: list[float] = []

    @app.on(Loose, start="beginning", retry=Backoff(first=0.2, most=0.8, factor=4))
    async def handle(event: Loose) -> None:
        at.append(time.monotonic())
        if len(at) < 4:
            raise ValueError("no")

    record(app, Loose(n=1))
    async with app.running():
        await until(lambda: len(at) == 4)
    waits = [later - earlier for earlier, later in itertools.pairwise(at)]
    for wait, longest in zip(waits, [0.2, 0.8, 0.8], strict=True):
        assert longest / 2 <= wait < longest + 0.5, waits


async def test_many_keys_that_fail_come_back_in_order(app: App) -> None:
    """A service that is down for a moment: all keys are parked at once, nothing is handled twice."""
    seen: list[Step] = []
    down = True

    @app.on(Step, start="beginning", retry=Backoff(first=0.05, most=0.2), concurrency=20)
    async def handle(event: Step) -> None:
        await asyncio.sleep(0)
        if down:
            raise ConnectionError("down")
        seen.append(event)

    keys = [f"k{n}" for n in range(120)]
    record(app, *(Step(key=key, n=n) for n in range(4) for key in keys))
    async with app.running():
        await until(lambda: len(app.operations.dead_letters(Filter(waiting_only=False))) == len(keys))
        down = False
        await until(lambda: len(seen) >= 480)
        record(app, *(Step(key=key, n=4) for key in keys))
        await until(lambda: len(seen) >= 600)
        await until(lambda: not app.operations.dead_letters(Filter(waiting_only=False)))
    assert by_key(seen) == {key: list(range(5)) for key in keys}


async def test_a_discard_drops_what_queued_when_it_was_decided(app: App) -> None:
    """However much that was, and however much later the worker learns of it; the audit names just that."""
    seen: list[int] = []

    @app.on(Step, start="beginning")
    async def handle(event: Step) -> Park | None:
        seen.append(event.n)
        return Park("no") if event.n == 0 else None

    record_steps(app, "a", range(1501))
    dropped = [str(each.id) for each in app.read(key="a")]
    async with app.running():
        await until(lambda: app.operations.standings()[0].behind == 0)
    (letter,) = app.operations.decide(Filter(), "discard", actor="ann", reason="gone")
    record_steps(app, "a", range(1501, 1505))
    async with app.running():
        await until(lambda: not app.operations.dead_letters(Filter(waiting_only=False)))
    assert seen == [0, *range(1501, 1505)]
    detail = app.operations.audit()[0].detail
    assert detail
    assert json.loads(detail) == {"position": letter.position, "dropped": dropped}


@pytest.mark.parametrize("decision", ["retry", "skip", "discard"])
@pytest.mark.parametrize("later", ["succeeds", "fails"])
async def test_a_decision_about_what_is_just_succeeding_doubles_nothing(
    app: App, decision: Decision, later: str
) -> None:
    """A person decides while the next attempt is under way; the worker learns of it when all is done."""
    seen: list[int] = []
    tries: Counter[int] = Counter()
    in_hand, gate = asyncio.Event(), asyncio.Event()

    @app.on(Step, start="beginning", retry=SOON)
    async def handle(event: Step) -> None:
        tries[event.n] += 1
        if tries[event.n] == 1 and (event.n == 0 or (event.n, later) == (3, "fails")):
            raise ValueError("once")
        if event.n == 0:
            in_hand.set()
            await gate.wait()
        seen.append(event.n)

    record_steps(app, "a", range(2))
    async with app.running():
        await in_hand.wait()
        anything = Filter(waiting_only=False)
        assert await asyncio.to_thread(app.operations.decide, anything, decision, actor="ann", reason="slow")
        record_steps(app, "a", range(2, 5))
        await until(lambda: app.operations.standings()[0].behind == 0)
        gate.set()
        await until(lambda: not app.operations.dead_letters(anything))
        record_steps(app, "a", range(5, 6))
        await until(lambda: 5 in seen)
    assert seen == [0, 1, 2, 3, 4, 5]


async def test_an_edit_of_what_is_just_succeeding_is_delivered(app: App) -> None:
    seen: list[int] = []
    in_hand, gate = asyncio.Event(), asyncio.Event()

    @app.on(Loose, start="beginning", retry=SOON)
    async def handle(event: Loose, delivery: Delivery) -> None:
        if delivery.attempt == 1 and event.n == 1:
            raise ValueError("once")
        if event.n == 1:
            in_hand.set()
            await gate.wait()
        seen.append(event.n)

    record(app, Loose(n=1))
    async with app.running():
        await in_hand.wait()
        (letter,) = app.operations.dead_letters(Filter(waiting_only=False))
        await asyncio.to_thread(app.operations.edit, "handle", letter.id, '{"n": 2}', actor="ann", reason="wrong")
        gate.set()
        await until(lambda: seen == [1, 2])


# ------------------------------------------------------------------------------------------ what hangs or is broken


async def test_an_async_handler_that_hangs_is_timed_out(app: App) -> None:
    seen: list[Step] = []
    broken_off: list[int] = []

    @app.on(Step, start="beginning", timeout=0.1, retry=SOON, concurrency=2)
    async def handle(event: Step, delivery: Delivery) -> None:
        if event.key == "a" and delivery.attempt == 1:
            try:
                await asyncio.Event().wait()
            finally:
                broken_off.append(event.n)
        seen.append(event)

    record_steps(app, "ab", range(1))
    async with app.running():
        await until(lambda: len(seen) == 2)
    assert broken_off == [0]


async def test_sync_handlers_that_hang_are_timed_out_and_keep_nobody(app: App) -> None:
    """More of them than there are hands: each is given up, and the others get threads all the same."""
    seen: list[Step] = []
    gate = threading.Event()

    @app.on(Step, start="beginning", timeout=0.1, retry=Backoff(attempts=1), concurrency=2)
    def handle(event: Step) -> None:
        if event.key.isdigit():
            gate.wait()
        seen.append(event)

    record(app, *(Step(key=str(n), n=n) for n in range(10)), Step(key="b", n=1))
    try:
        async with app.running():
            await until(lambda: seen)
            await until(lambda: len(app.operations.dead_letters()) == 10)
            (reason,) = {letter.reason for letter in app.operations.dead_letters()}
            assert reason == "no answer within 0.1 s"
    finally:
        gate.set()


async def test_a_row_that_cannot_be_decoded_parks_and_stops_nothing(app: App) -> None:
    seen: list[Step] = []

    @app.on(Step, start="beginning")
    async def handle(event: Step) -> None:
        seen.append(event)

    positions = record(app, *(Step(key=key, n=n) for n in range(3) for key in "ab"))
    run_sql(app, f'update ensue_events set data = \'{{"key": "a", "n": "x"}}\' where position = {positions[2]}')
    async with app.running():
        await until(lambda: len(seen) == 4)
        await until(lambda: app.operations.dead_letters())
    assert by_key(seen) == {"a": [0], "b": [0, 1, 2]}
    (letter,) = app.operations.dead_letters()
    assert letter.position == positions[2]
    assert letter.reason.startswith("UndecodableEvent")
    assert "$.n" in letter.reason

    await asyncio.to_thread(
        app.operations.edit, "handle", letter.id, '{"key": "a", "n": 1}', actor="ann", reason="a typo"
    )
    async with app.running():
        await until(lambda: len(seen) == 6)
    assert by_key(seen)["a"] == [0, 1, 2]


async def test_a_row_that_is_not_utf8_parks_and_stops_nothing(tmp_path: Path) -> None:
    """SQLite takes any bytes as text. A key that cannot be read keeps no order, but its event is there."""
    app = App("delivery", f"sqlite:///{tmp_path / 'log.db'}", migrate=True)
    seen: list[int] = []

    @app.on(Step, start="beginning")
    async def handle(event: Step) -> None:
        seen.append(event.n)

    app.migrate()
    positions = record(app, *(Step(key="a", n=n) for n in range(5)))
    broken = b'{"key":"\xff","n":1}'
    run_sql(app, f"update ensue_events set data = cast(x'{broken.hex()}' as text) where position = {positions[1]}")
    run_sql(app, f"update ensue_events set key = cast(x'ff' as text) where position >= {positions[3]}")
    async with app.running():
        await until(lambda: app.operations.dead_letters())
        await until(lambda: len(seen) == 3)
        assert [each.position async for each in app.read()] == positions
    assert seen == [0, 3, 4]
    (letter,) = app.operations.dead_letters()
    assert letter.position == positions[1]
    assert letter.reason.startswith("UndecodableEvent")
    assert letter.data == r'not UTF-8: {"key":"\xff","n":1}'
    assert [each.own_key for each in app.read()] == ["a", "a", "a", None, None]

    app.operations.edit("handle", letter.id, '{"key": "a", "n": 1}', actor="ann", reason="a damaged file")
    async with app.running():
        await until(lambda: seen == [0, 3, 4, 1, 2])


@pytest.mark.parametrize("metadata", ["[1]", "5", '{"actor": 5}', '{"headers": [1]}'])
async def test_metadata_that_cannot_be_decoded_parks_at_once(app: App, metadata: str) -> None:
    @app.on(Loose, start="beginning")
    async def handle(event: Loose) -> None: ...

    (position,) = record(app, Loose(n=1))
    run_sql(app, f"update ensue_events set metadata = '{metadata}'")
    async with app.running():
        await until(lambda: app.operations.dead_letters())
    (letter,) = app.operations.dead_letters()
    assert letter.attempt == 1
    assert letter.reason.startswith(f"UndecodableEvent: the metadata of event {letter.id} at position {position} ")


async def test_a_parked_event_that_is_gone_from_the_log_stops_nothing(app: App) -> None:
    seen: list[Step] = []

    @app.on(Step, start="beginning", retry=Backoff(first=0.3, most=0.3))
    async def handle(event: Step) -> None:
        if event.key == "a" and event.n == 0:
            raise ValueError("no")
        seen.append(event)

    (position, *_) = record(app, *(Step(key=key, n=n) for n in range(2) for key in "ab"))
    async with app.running():
        await until(lambda: app.operations.dead_letters(Filter(waiting_only=False)))
        run_sql(app, f"delete from ensue_events where position = {position}")
        await until(lambda: len(seen) == 3)
        await until(lambda: not app.operations.dead_letters(Filter(waiting_only=False)))
    assert by_key(seen) == {"a": [1], "b": [0, 1]}


# --------------------------------------------------------------------------------------- pausing and stopping


async def test_a_paused_subscription_waits(app: App) -> None:
    seen: list[int] = []
    others: list[int] = []

    @app.on(Loose, retry=SOON)
    async def paused(event: Loose, delivery: Delivery) -> None:
        if event.n == 1 and delivery.attempt < 3:
            raise ValueError("no")
        seen.append(event.n)

    @app.on(Loose)
    async def other(event: Loose) -> None:
        others.append(event.n)

    async with app.running(lease=0.3) as worker:
        await asyncio.to_thread(app.operations.pause, "paused", actor="ann", reason="the service is moving house")
        await until(lambda: all(r.paused for r in worker._crew.runners.values() if r.subscription.name == "paused"))
        record(app, *(Loose(n=n) for n in range(3)))
        await until(lambda: len(others) == 3)
        assert seen == []
        await asyncio.to_thread(app.operations.resume, "paused", actor="ann", reason="it has moved")
        await until(lambda: sorted(seen) == [0, 1, 2])
    assert [entry.action for entry in app.operations.audit()] == ["resume", "pause"]


async def test_a_graceful_stop_does_nothing_twice(app: App) -> None:
    """It stops out of order: some of the first events hang, later ones are done, the last have not begun."""
    done: list[int] = []
    gate = asyncio.Event()
    stuck = {0, 7, 20}

    @app.on(Loose, start="beginning", concurrency=4)
    async def handle(event: Loose) -> None:
        if event.n in stuck or event.n > 150:
            await gate.wait()
        done.append(event.n)

    record(app, *(Loose(n=n) for n in range(200)))
    async with app.running(grace=0.1):
        await until(lambda: len(done) == 148)
    assert sorted(done) == sorted(set(range(151)) - stuck)
    gate.set()
    async with app.running():
        await until(lambda: len(done) >= 200)
        await until(lambda: not app.operations.dead_letters(Filter(waiting_only=False)))
        await until(lambda: app.operations.standings()[0].behind == 0)
    assert sorted(done) == list(range(200))


async def test_stopping_waits_for_the_events_in_hand(app: App) -> None:
    begun, release = asyncio.Event(), asyncio.Event()
    done: list[int] = []

    @app.on(Loose, start="beginning", concurrency=1)
    async def handle(event: Loose) -> None:
        begun.set()
        await release.wait()
        done.append(event.n)

    record(app, Loose(n=1), Loose(n=2))

    working = asyncio.Queue[Worker]()

    async def run() -> None:
        async with app.running(grace=20) as worker:
            working.put_nowait(worker)
            await begun.wait()

    running = asyncio.create_task(run())
    runners = (await working.get())._crew.runners
    await until(lambda: runners and all(isinstance(r, Runner) and r.stopping for r in runners.values()))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not running.done()
    release.set()
    await running
    assert done == [1]
    async with app.running():
        await until(lambda: done == [1, 2])


async def test_stopping_breaks_off_what_takes_too_long(app: App) -> None:
    begun = asyncio.Event()
    attempts: list[int] = []

    @app.on(Loose, start="beginning")
    async def handle(event: Loose, delivery: Delivery) -> None:
        attempts.append(delivery.attempt)
        if len(attempts) == 1:
            begun.set()
            await asyncio.Event().wait()

    record(app, Loose(n=1))
    began = time.monotonic()
    async with app.running(grace=0.1):
        await begun.wait()
    assert time.monotonic() - began < 5
    async with app.running():
        await until(lambda: len(attempts) == 2)
    assert attempts == [1, 1], "what its worker broke off is no failed attempt"


async def test_who_has_an_event_loop_is_told_what_to_call(app: App) -> None:
    with pytest.raises(RuntimeError, match=r"and one runs here: async with app\.running\(\): …"):
        app.run()


async def test_a_handler_that_blocks_the_event_loop_is_told_from_a_database_that_is_slow(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    handled: list[int] = []

    @app.on(Loose, start="beginning")
    async def block(event: Loose) -> None:
        time.sleep(0.9)  # noqa: ASYNC251 the fault itself
        handled.append(event.n)

    with app.transaction() as connection:
        app.record(Loose(n=1), via=connection)
    with caplog.at_level(logging.WARNING, "ensue"):
        async with app.running(lease=0.5):
            await until(lambda: handled and "no lease could be renewed" in caplog.text)
    said = re.search(r"for ([\d.]+) s: .*; the event loop of this process stood still for ([\d.]+) s", caplog.text)
    assert said is not None, caplog.text
    unrenewed, still = map(float, said.groups())
    assert 0.2 <= still <= unrenewed
    assert unrenewed >= 0.9


async def test_an_error_of_the_worker_reaches_the_program_that_runs_it(app: App) -> None:
    declare(app, "any")
    app.migrate()
    with pytest.raises(errors.NotMigrated):
        async with app.running(lease=0.3):
            run_sql(app, "drop table ensue_parked")
            await asyncio.Event().wait()


# ------------------------------------------------------------------------------------------------- all together


async def test_subscriptions_that_join_at_different_times_miss_nothing(app: App, url: str, schema: str) -> None:
    """Three workers one after the other under constant load, each with more subscriptions: each sees all once."""
    types: list[type[DomainEvent]] = [Loose, Other, Step]
    seen: dict[str, list[int]] = defaultdict(list)
    recorded: dict[type[DomainEvent], list[int]] = defaultdict(list)
    recording = True

    def subscribe(app: App, number: int) -> None:
        wanted = [types[number % 3], types[number % 2]][: 1 + number % 2]

        @app.on(*dict.fromkeys(wanted), name=f"s{number}", start="beginning", concurrency=1 + number % 4)
        async def handle(event: Loose | Other | Step) -> None:
            if number % 5 == 0:
                await asyncio.sleep(0)
            seen[f"s{number}"].append(event.n)

    def load() -> None:
        for n in itertools.count():
            if not recording:
                return
            batch = [types[(n + each) % 3] for each in range(5)]
            events = [
                cls(key=str(n % 7), n=10 * n + each) if cls is Step else cls(n=10 * n + each)
                for each, cls in enumerate(batch)
            ]
            record(app, *events)
            for event in events:
                recorded[type(event)].append(event.n)  # type: ignore[attr-defined]
            time.sleep(0.002)  # a pace: what is recorded faster than it can be handled only makes the test long

    thread = threading.Thread(target=load)
    thread.start()
    try:
        for count in (3, 8, 16):
            grown = App("delivery", url, schema=schema)
            for number in range(count):
                subscribe(grown, number)
            async with grown.running():
                mark = {cls: len(numbers) for cls, numbers in recorded.items()}
                await until(lambda: all(len(recorded[cls]) > mark.get(cls, 0) + 50 for cls in types))
                await until(lambda: len(seen) == count)
        recording = False
        thread.join()
        expected = {
            name: sorted(n for cls in types if cls.__type__ in each.types for n in recorded[cls])
            for name, each in grown.subscriptions.items()
        }
        async with grown.running():
            await until(lambda: all(len(seen[name]) >= len(expected[name]) for name in expected), seconds=40)
    finally:
        recording = False
        thread.join()
    missed = {name: set(numbers) - set(seen[name]) for name, numbers in expected.items()}
    doubled = {name: [n for n, times in Counter(numbers).items() if times > 1] for name, numbers in seen.items()}
    assert not any(missed.values()), missed
    assert not any(doubled.values()), doubled


async def test_a_worker_does_not_start_on_a_schema_that_lacks_a_migration(app: App, schema: str) -> None:
    app.migrate()
    point = "." if app.log.place.url.startswith("postgresql") else "_"
    with app.transaction() as connection:
        connection.execute(f"delete from {schema}{point}migrations where name = '0002_subscriptions'")
    with pytest.raises(
        errors.NotMigrated, match=r"^the log in .* lacks the migrations 0002_sub.*: run `ensue migrate`"
    ):
        async with app.running():
            pass


async def test_events_that_still_wait_are_not_passed_over_when_their_type_is_wanted_no_more(
    app: App, url: str, schema: str
) -> None:
    app.on(Loose, name="both")(lambda event: None)
    app.migrate()
    with app.transaction() as connection:
        app.record(Loose(n=1), via=connection)
    renamed = App(app.name, url, schema=schema)
    renamed.on(Other, name="both")(lambda event: None)
    with pytest.raises(errors.DeclarationError, match=r"1 recorded events of it still wait"):
        renamed.migrate()
    async with app.running():
        await until(lambda: app.operations.standings()[0].checkpoint > 0)
    renamed.migrate()
    assert app.operations.standings()[0].types == (Other.__type__,)
