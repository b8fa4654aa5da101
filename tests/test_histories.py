"""A projection's table equals an independent fold of the log: over random histories, at every moment of them.

A history is a list of steps: events are recorded, workers come and go, leases are lost, connections break, builds are
begun, switched to, copied, dropped, keys are parked, decided on and repaired. Between any two steps, and at the end,
every build's table is compared, in one transaction, with what plain Python makes of the events that the build is said
to have handled.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import secrets
import sqlite3
import tempfile
import threading
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator
from contextlib import AsyncExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from ensue import App, Backoff, DomainEvent, Park, Retry, errors
from ensue.errors import Permanent
from ensue.subscriptions.operating import Filter
from ensue.subscriptions.parking import GOES_ON

HISTORIES = int(os.environ.get("ENSUE_TEST_HISTORIES", "3"))
"""How many for each database and each colour."""

OWNERS = tuple(f"o{n}" for n in range(6))
FAULTS = ("raises", "is refused", "is refused for good", "asks for a retry", "parks", "loses the lease", "is late")
LEDGER = (
    "create table ledgers (owner text primary key, amount bigint not null, changes bigint not null, "
    "trace bigint not null)"
)
ADD = """insert into ledgers (owner, amount, changes, trace) values ({0}, {0}, 1, {0})
on conflict (owner) do update set amount = ledgers.amount + excluded.amount, changes = ledgers.changes + 1,
trace = (ledgers.trace * 31 + excluded.amount) % 1000003"""
"""The trace says in which order events were applied."""

Rows = dict[str, tuple[int, int, int]]
Step = tuple[Any, ...]


class Entered(DomainEvent, key="owner", name="test.histories.entered"):
    owner: str
    amount: int


class Noted(DomainEvent, name="test.histories.noted"):
    """It has no key: nothing queues behind it."""

    owner: str
    amount: int


LENGTH = 40
"""How many steps a history has."""


WEIGHTS = {
    "record": 8,
    "wait": 6,
    "start": 4,
    "stop": 2,
    "lose leases": 3,
    "break connections": 1,
    "decide": 4,
    "pause": 1,
    "resume": 4,
    "repartition": 3,
    "begin": 4,
    "switch": 5,
    "drop": 1,
    "repair": 3,
}
"""How often something happens, compared with the rest."""


def steps_of(dice: random.Random) -> Iterator[Step]:
    """Yield the steps of a history."""
    for _ in range(LENGTH):
        match dice.choices([*WEIGHTS], [*WEIGHTS.values()])[0]:
            case "record":
                yield "record", [planned(dice) for _ in range(dice.randint(1, 12))]
            case "wait":
                yield "wait", dice.randint(1, 100)
            case "start" | "stop" as what:
                yield what, dice.randrange(3)
            case "break connections":
                yield ("break connections",)
            case "decide":
                yield "decide", dice.choice(("retry", "skip", "discard")), dice.randrange(4)
            case "repartition":
                yield "repartition", dice.randrange(4), dice.randint(1, 4)
            case "begin":
                yield "begin", dice.choice((True, False)), dice.choice((0.0, 0.05, 2.0))
            case "switch":
                yield "switch", dice.randrange(4), dice.random() < 0.2
            case "repair":
                yield "repair", dice.choice(OWNERS), dice.randrange(2)
            case what:  # to one of the builds
                yield what, dice.randrange(4)


def planned(dice: random.Random) -> tuple[str, tuple[str, ...], bool]:
    """Return whose an event is, what becomes of the attempts to apply it, and whether it has a key."""
    faults = tuple(dice.choice(FAULTS) for _ in range(dice.choice((0, 0, 0, 0, 0, 1, 2))))
    return dice.choice(OWNERS), faults, dice.random() < 0.8


def slot_of(key: str) -> int:
    return zlib.crc32(key.encode()) % 65536


class History:
    """One log, its workers, and what the events are going to do when they are applied."""

    def __init__(self, url: str, schema: str, *, asynchronous: bool) -> None:
        self.url = url
        self.schema = schema
        self.postgres = url.startswith("postgres")
        self.asynchronous = asynchronous
        self.faults: dict[int, list[str]] = {}
        self.numbers = iter(range(1, 1_000_000))
        self.repaired: dict[tuple[str, str], set[str]] = defaultdict(set)
        """Of the build with this cursor and this key: what had been dropped, and has been applied all the same."""
        self.inherited: dict[str, dict[str, str]] = defaultdict(dict)
        """What had been dropped from the build of which this one is a copy."""
        self.apps = [self.app(version=1), self.app(version=2), self.app(version=1)]
        self.working: dict[int, AsyncExitStack] = {}
        self._connection = self.connect()
        self._lock = threading.Lock()

    # --- the application

    def app(self, version: int) -> App:
        app = App("histories", self.url, schema=self.schema)
        add = ADD.replace("%", "%%").format("%s") if self.postgres else ADD.format("?")

        def clear(key: str, db: Any) -> Any:
            return db.execute(f"delete from ledgers where owner = '{key}'")

        def about(event: Entered | Noted) -> tuple[Any, ...]:
            fault = faults.pop(0) if (faults := self.faults.get(event.amount)) else ""
            match fault:
                case "raises":
                    raise ValueError("not today")
                case "is refused for good":
                    raise Permanent("never")
                case "loses the lease" if self.postgres:  # in SQLite nobody can write meanwhile
                    self.lose_leases(0)
            return fault, (event.owner, None if fault == "is refused" else event.amount, event.amount)

        def answer(fault: str) -> Park | Retry | None:
            match fault:
                case "parks":
                    return Park("not this one")
                case "asks for a retry":
                    return Retry(0.01)
            return None

        def ledgers(event: Entered | Noted, db: Any) -> Park | Retry | None:
            fault, values = about(event)
            db.execute(add, values)
            return answer(fault)

        async def ledgers_async(event: Entered | Noted, db: Any) -> Park | Retry | None:
            fault, values = about(event)
            await db.execute(add, values)
            if fault == "is late":
                await asyncio.sleep(30)
            return answer(fault)

        async def clear_async(key: str, db: Any) -> None:
            await clear(key, db)

        app.projection(
            Entered,
            Noted,
            name="ledgers",
            tables="ledgers",
            set_up=LEDGER,
            clear=clear_async if self.asynchronous else clear,
            version=version,
            batch=5,
            partitions=2,
            retry=Backoff(first=0.01, most=0.03, attempts=3),
            timeout=0.1,
        )(ledgers_async if self.asynchronous else ledgers)
        return app

    # --- steps

    async def take(self, step: Step) -> None:
        match step:
            case ("record", events):
                await asyncio.to_thread(self.record, events)  # an async function may hold the file's lock meanwhile
            case ("wait", milliseconds):
                await asyncio.sleep(milliseconds / 1000)  # whatever happens meanwhile
            case ("start", worker):
                if worker not in self.working:
                    stack = self.working[worker] = AsyncExitStack()
                    await stack.enter_async_context(self.apps[worker].running(lease=0.4, grace=1.0))
            case ("stop", worker):
                if worker in self.working:
                    await self.working.pop(worker).aclose()
            case ("lose leases", which):
                await asyncio.to_thread(self.lose_leases, which)
            case ("break connections",):
                self.break_connections()
            case ("decide", decision, which):
                if letters := await asyncio.to_thread(self.letters):
                    each = letters[which % len(letters)]
                    await self.operate(
                        "decide", Filter(id=each.id, subscription=each.subscription, waiting_only=False), decision
                    )
            case ("pause" | "resume" as action, which):
                await self.operate(action, self.cursor(which))
            case ("repartition", which, parts):
                await self.operate("repartition", self.cursor(which), parts)
            case ("begin", copied, seconds):
                await self.begin(copied=copied, seconds=seconds)
            case ("switch", which, force):
                await self.switch(which, force=force)
            case ("drop", which):
                with suppress(errors.ProjectionError):
                    number = self.builds()[which % len(self.builds())][0]
                    await asyncio.to_thread(self.apps[0].replays.drop, "ledgers", number, actor="me", reason="")
                there = {cursor for _, _, cursor, _ in self.builds()}
                for cursor in self.inherited.keys() - there:
                    del self.inherited[cursor]
                for build, key in [each for each in self.repaired if each[0] not in there]:
                    del self.repaired[build, key]
            case ("repair", owner, which):
                await self.repair(owner, self.apps[which])

    def record(self, events: list[tuple[str, tuple[str, ...], bool]]) -> None:
        made: list[Entered | Noted] = []
        for owner, faults, keyed in events:
            number = next(self.numbers)
            self.faults[number] = list(faults)
            made.append(Entered(owner=owner, amount=number) if keyed else Noted(owner=f"n{number}", amount=number))
        with self.apps[0].transaction() as connection:
            self.apps[0].record(*made, via=connection)

    async def operate(self, method: str, *arguments: Any) -> None:
        call: Callable[..., Any] = getattr(self.apps[0].operations, method)
        with suppress(errors.UnknownName):
            await asyncio.to_thread(call, *arguments, actor="me", reason="the history says so")

    def letters(self) -> list[Any]:
        return self.apps[0].operations.dead_letters(Filter(waiting_only=False))

    def lose_leases(self, which: int) -> None:
        """Let others take the leases of a build, as if they had run out."""
        name, mark = self.cursor(which), "%s" if self.postgres else "?"
        update = f"update {self.table('partitions')} set owner = null, epoch = epoch + 1 where subscription = {mark}"
        with suppress(psycopg.errors.LockNotAvailable):  # another one has it, in this very event loop perhaps
            self.ask(update, (name,))

    def break_connections(self) -> None:
        if self.postgres:
            self.ask(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where datname = current_database() and application_name = 'ensue histories'"
            )

    async def begin(self, *, copied: bool, seconds: float) -> None:
        replays = self.apps[0].replays
        try:
            before = self.builds()
            build = await asyncio.to_thread(replays.begin, "ledgers", copied=copied)
        except errors.EnsueError:
            return
        if copied and build.number not in [number for number, *_ in before]:
            self.inherited[build.cursor] |= self.dropped(next(c for _, state, c, _ in before if state == "live"))
        with suppress(TimeoutError, errors.ProjectionError):
            async with asyncio.timeout(seconds):
                await replays.build(build, lease=0.4)

    async def switch(self, which: int, *, force: bool) -> None:
        builds = self.builds()
        number = builds[which % len(builds)][0]
        with suppress(errors.ProjectionError):
            await asyncio.to_thread(
                self.apps[0].replays.switch, "ledgers", number, actor="me", reason="", force=force, timeout=0.2
            )

    async def repair(self, owner: str, app: App) -> None:
        try:
            build = await asyncio.to_thread(app.replays.mine, "ledgers")
        except errors.ProjectionError:
            return
        if any(
            each.key == owner and each.next_step in ("skip", "discard")
            for each in await asyncio.to_thread(self.letters)
        ):
            return  # it may be carried out before or after
        with suppress(Exception):  # a fault, or the connection was broken: then nothing has changed
            await app.replays.repair(build, [owner])
            self.repaired[build.cursor, owner] |= self.dropped(build.cursor).keys()

    # --- what is there

    def connect(self) -> Any:
        if self.postgres:
            connection = psycopg.connect(self.url, autocommit=True)
            connection.execute("set lock_timeout = '200ms'")
            return connection
        return sqlite3.connect(
            self.url.removeprefix("sqlite:///"), timeout=20, isolation_level=None, check_same_thread=False
        )

    def ask(self, sql: str, values: tuple[Any, ...] = (), *, via: Any = None) -> list[tuple[Any, ...]]:
        """Carry a statement out: on the connection, or on one that every thread may use in its turn."""
        with self._lock if via is None else nullcontext():
            cursor = (via or self._connection).execute(sql, values)
            return [] if cursor.description is None else cursor.fetchall()

    def table(self, name: str) -> str:
        return f"{self.schema}.{name}" if self.postgres else f"{self.schema}_{name}"

    def builds(self, via: Any = None) -> list[tuple[int, str, str, str]]:
        """Return number, state and cursor of the builds, and where their table is."""
        rows = self.ask(f"select number, state, home from {self.table('projections')} order by 1", via=via)
        found = []
        for number, state, home in rows:
            cursor = "ledgers" if number == 1 else f"ledgers:{number}"
            if self.postgres:
                place = f'"{home}".ledgers' if state == "live" else f"{self.schema}_ledgers_{number}.ledgers"
            else:
                place = "ledgers" if state == "live" else f"ledgers__{number}"
            found.append((number, state, cursor, place))
        return found

    def cursor(self, which: int) -> str:
        builds = self.builds()
        return builds[which % len(builds)][2]

    def dropped(self, cursor: str, via: Any = None) -> dict[str, str]:
        """Return the events that this build is not to have, and their keys: of a key, what was said last holds."""
        mark = "%s" if self.postgres else "?"
        decisions = self.ask(
            f"select key, detail from {self.table('audit')} where subscription = {mark} "
            "and action in ('retry', 'skip', 'discard') order by number",
            (cursor,),
            via=via,
        )
        positions = {str(id): at for id, at in self.ask(f"select id, position from {self.table('events')}", via=via)}
        found = dict(self.inherited[cursor])
        for key, detail in decisions:
            said = loaded(detail)
            found = {id: k for id, k in found.items() if k != key or positions[id] < said["position"]}
            found |= dict.fromkeys(said["dropped"], key)
        return found

    @contextmanager
    def snapshot(self) -> Generator[Any]:
        """Lend a connection that sees everything as it is at one moment."""
        connection = self.connect()
        try:
            connection.execute("begin isolation level repeatable read" if self.postgres else "begin")
            yield connection
        finally:
            connection.close()

    def check(self) -> dict[str, tuple[Rows, Rows]]:
        """Compare all builds; return what each holds, and what it would have to hold at the end of the log."""
        with self.snapshot() as at:
            events = [
                (position, str(key or id), str(id), loaded(data))
                for position, key, id, data in at.execute(
                    f"select position, key, id, data from {self.table('events')} order by position"
                ).fetchall()
            ]
            found: dict[str, tuple[Rows, Rows]] = {}
            for _, _, cursor, place in self.builds(at):
                rows = {
                    r[0]: tuple(r[1:])
                    for r in at.execute(f"select owner, amount, changes, trace from {place}").fetchall()
                }
                expected = self.fold(at, cursor, events)
                assert rows == expected, f"{cursor} holds {rows}, its events make {expected}"
                found[cursor] = rows, self.fold(at, cursor, events, whole=True)
            return found

    def fold(self, at: Any, cursor: str, events: list[Any], *, whole: bool = False) -> Rows:
        """Return what a build has to hold by the events that its progress says it has handled."""
        mark = "%s" if self.postgres else "?"
        parts = at.execute(
            f"select first_slot, last_slot, checkpoint, ahead from {self.table('partitions')} "
            f"where subscription = {mark}",
            (cursor,),
        ).fetchall()
        parked = {
            key: position + (reason == GOES_ON and step == "skip")  # handled, and those behind it are next
            for key, position, step, reason in at.execute(
                f"select key, position, next_step, reason from {self.table('parked')} where subscription = {mark}",
                (cursor,),
            ).fetchall()
        }
        dropped = self.dropped(cursor, at)
        found: Rows = {}
        for position, key, id, data in events:
            slot = slot_of(key)
            reached = max(
                (
                    max([checkpoint, *(to for low, high, to in loaded(ahead) if low <= slot <= high)])
                    for first, last, checkpoint, ahead in parts
                    if first <= slot <= last
                ),
                default=0,
            )
            handled = position <= reached and not (key in parked and position >= parked[key])
            if (handled or whole) and (id not in dropped or id in self.repaired[cursor, key]):
                owner, added = data["owner"], data["amount"]
                amount, changes, trace = found.get(owner, (0, 0, 0))
                found[owner] = (amount + added, changes + 1, (trace * 31 + added) % 1000003 if changes else added)
        return found

    # --- the end

    async def heal(self) -> None:
        """Let everything go on that can, until the live build has all events."""
        self.faults.clear()
        for _, _, cursor, _ in self.builds():
            await self.operate("resume", cursor)
        for worker in (0, 1):
            await self.take(("start", worker))
        live = next(cursor for _, state, cursor, _ in self.builds() if state == "live")
        deadline = time.monotonic() + 20
        while True:
            await self.operate("decide", Filter(), "retry")  # what was in hand may have failed since
            holds, wants = (await asyncio.to_thread(self.check))[live]
            if holds == wants:
                return
            assert time.monotonic() < deadline, f"{live} has stopped: {holds} instead of {wants}"
            await asyncio.sleep(0.02)

    async def stop(self) -> None:
        for stack in self.working.values():
            await stack.aclose()

    def close(self) -> None:
        self._connection.close()


def loaded(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


async def live_through(history: History, seed: int) -> None:
    history.apps[0].migrate()
    try:
        await history.take(("start", 0))
        for number, step in enumerate(steps_of(random.Random(seed))):
            note(f"{number}: {step}")
            await history.take(step)
            await asyncio.to_thread(history.check)
        await history.heal()
    finally:
        await history.stop()
        history.close()


HURRIED = settings(
    max_examples=HISTORIES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],  # threads and other processes take part: it would not shrink
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@HURRIED
@given(seed=st.integers(0, 2**32))
def test_sqlite(asynchronous: bool, seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'log.db'}"
        asyncio.run(live_through(History(url, "ensue", asynchronous=asynchronous), seed))


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@HURRIED
@given(seed=st.integers(0, 2**32))
def test_postgres(postgres_url: str, asynchronous: bool, seed: int) -> None:
    schema = f"h_{secrets.token_hex(6)}"
    joint = "&" if "?" in postgres_url else "?"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"create schema {schema}_readers")
        try:
            url = f"{postgres_url}{joint}options=-csearch_path%3D{schema}_readers"
            asyncio.run(live_through(History(url, schema, asynchronous=asynchronous), seed))
        finally:
            for (name,) in connection.execute(
                "select nspname from pg_namespace where starts_with(nspname, %s)", [schema]
            ).fetchall():
                connection.execute(f"drop schema {name} cascade")
