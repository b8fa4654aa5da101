"""What it costs to be seen: a console that is open beside a worker, traces and metrics, and a log that is large."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import IO, NamedTuple

import msgspec
import psycopg

from bench.events import sign_ups
from bench.harness import Figure, Room, Series, Side, Target, absolute, ratio
from bench.observed import Cost, Seen
from bench.observed import Task as Observed
from bench.stores import Pair, pair
from bench.watched import Sent, Task

RATE = 200
"""Events recorded in a second, one per commit."""
SLOWEST = 1.0
"""Seconds that a view of a large log may take."""


def figures(room: Room) -> Iterator[Figure]:
    """Compare a worker under load whose console is open with one whose console is not, and so on."""
    yield from _watched(room)
    yield from _observed(room)
    yield from _large(room)


# ------------------------------------------------------------------------------------------------- an open console


def _watched(room: Room) -> Iterator[Figure]:
    """Compare a worker under load whose console is open with the same one while nobody looks."""
    seconds = 0.5 if room.quick else 10.0
    statements: dict[str, list[float]] = {"console open": [], "nobody looks": []}
    own: list[float] = []
    with pair(room.postgres) as made, ExitStack() as stack:
        load = stack.enter_context(Load.running(made))

        def side(name: str, *, watched: bool) -> Side:
            def measure() -> float:
                found = load.slice(seconds, watched=watched)
                statements[name].append(found.statements)
                if watched:
                    own.append(found.console)
                return found.worker

            return Side(name, measure)

        title = f"PostgreSQL, {RATE} events/s to five subscriptions, the console open on its live overview"
        both = (side("console open", watched=True), side("nobody looks", watched=False))
        ours, base = room.interleave(title, both)
    yield ratio(
        room.group,
        f"{title}: processor time of the worker",
        "µs/event",
        ours,
        base,
        target=Target(1.02, most=True),
        note="with its backends, where the server runs here; one worker, looked at every other ten seconds",
    )
    yield ratio(
        room.group,
        f"{title}: statements of the worker",
        "/event",
        ours.also(statements[ours.name]),
        base.also(statements[base.name]),
    )
    yield absolute(
        room.group,
        f"{title}: processor time of the console",
        "ms/s",
        ours.also(own),
        target=Target(20, most=True),
        note="its process and its backends; 20 ms/s are two in a hundred of one core",
    )


class Slice(NamedTuple):
    """What some seconds took."""

    worker: float
    """Microseconds of the processor for each event."""
    statements: float
    """For each event."""
    console: float
    """Milliseconds of the processor in a second."""


class Load:
    """A worker and a console, each a process of its own, under load."""

    def __init__(self, made: Pair, worker: subprocess.Popen[bytes], console: subprocess.Popen[bytes]) -> None:
        self._made = made
        self._worker = worker
        self._console = console
        self._address = b""
        self._working: list[int] = []
        """The worker, and its backends."""
        self._recording: psycopg.Connection
        self._watching: psycopg.Connection

    @classmethod
    @contextmanager
    def running(cls, made: Pair) -> Generator[Load]:
        """Start both, and let the worker get warm."""
        with ExitStack() as stack:
            worker = stack.enter_context(_process(Task(made.url, made.schema, "worker")))
            _line(worker)
            console = stack.enter_context(_process(Task(made.url, made.schema, "console")))
            load = cls(made, worker, console)
            load._recording = stack.enter_context(psycopg.connect(made.url))
            load._watching = stack.enter_context(psycopg.connect(made.url, autocommit=True))
            _record(made, load._recording, 2.0)
            load._working = [worker.pid, *_backends(load._watching)]
            load._address = _line(console)
            yield load

    def slice(self, seconds: float, *, watched: bool) -> Slice:
        """Record for so many seconds; tell what that took."""
        with _looking(self._address) if watched else nullcontext():
            before, console, sent = _used(self._working), self._looking(), self._sent()
            began = time.perf_counter()
            count = _record(self._made, self._recording, seconds)
            took = time.perf_counter() - began
            used = _since(before, _used(self._working)) / count * 1e6
            looked = _since(console, self._looking()) / took * 1000
            return Slice(used, (self._sent() - sent) / count, looked)

    def _looking(self) -> dict[int, float]:
        others = set(_backends(self._watching)).difference(self._working)
        return _used([self._console.pid, *others])

    def _sent(self) -> int:
        """Return how many statements the worker has sent."""
        assert self._worker.stdin is not None
        self._worker.stdin.write(b"\n")
        self._worker.stdin.flush()
        return msgspec.json.decode(_line(self._worker), type=Sent).statements


def _backends(watching: psycopg.Connection) -> list[int]:
    """Return the processes of the server that work for the log."""
    asked = "select pid from pg_stat_activity where application_name = 'ensue bench'"
    return [pid for (pid,) in watching.execute(asked)]


def _record(made: Pair, connection: psycopg.Connection, seconds: float) -> int:
    """Record at the rate, one event per commit; return how many that were."""
    app, began, count = made.app(), time.perf_counter(), max(1, int(seconds * RATE))
    for number in range(count):
        app.record(*sign_ups(1), via=connection)
        connection.commit()
        time.sleep(max(0.0, began + (number + 1) / RATE - time.perf_counter()))
    return count


@contextmanager
def _process(task: Task) -> Generator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.watched"],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(task) + b"\n")
        process.stdin.flush()
        yield process
    finally:
        process.terminate()
        process.communicate()


def _line(process: subprocess.Popen[bytes]) -> bytes:
    output: IO[bytes] | None = process.stdout
    assert output is not None
    return output.readline().strip()


@contextmanager
def _looking(address: bytes) -> Generator[None]:
    """Be a browser that shows the overview: its page, and what changes in it."""
    root = address.decode()
    urllib.request.urlopen(root, timeout=30).read()
    seen = threading.Event()

    def read() -> None:
        with urllib.request.urlopen(f"{root}live/overview", timeout=30) as stream:
            while not seen.is_set():  # something changes all the time
                stream.readline()

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield
    finally:
        seen.set()
        thread.join()


def _used(processes: Iterable[int]) -> dict[int, float]:
    """Return the seconds of the processor that each process has had so far; 0 for those of another machine."""
    used: dict[int, float] = {}
    for pid in processes:
        threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
        used[pid] = sum(int(each.read_text().split()[0]) / 1e9 for each in threads if each.exists())
    return used


def _since(before: dict[int, float], after: dict[int, float]) -> float:
    """Return what processes have had meanwhile; what has ended is left out."""
    return sum(max(0.0, used - before.get(pid, 0.0)) for pid, used in after.items())


# --------------------------------------------------------------------------------------------- traces and metrics


def _observed(room: Room) -> Iterator[Figure]:
    """Compare recording and handling that nobody sees with a process that knows of no integration, and with others."""
    count = room.sized(20_000, 200)
    handling: dict[Seen, list[float]] = {"imported": [], "": [], "metrics": [], "traces": []}

    def side(name: str, seen: Seen) -> Side:
        def measure() -> float:
            cost = _cost(Observed(count, seen))
            handling[seen].append(cost.handling)
            return cost.recording

        return Side(name, measure)

    names: dict[Seen, str] = {
        "imported": "off",
        "": "no integration imported",
        "metrics": "Prometheus",
        "traces": "OpenTelemetry traces",
    }
    title = "in memory, traces and metrics off: processor time"
    series = room.interleave(title, [side(name, seen) for seen, name in names.items()], runs=7)
    recorded = dict(zip(names, series, strict=True))
    handled: dict[Seen, Series] = {seen: recorded[seen].also(handling[seen]) for seen in names}
    for what, found in (("recording", recorded), ("handling", handled)):
        yield ratio(
            room.group,
            f"{what} {title}",
            "µs/event",
            found["imported"],
            found[""],
            [found["metrics"], found["traces"]],
            target=Target(1.03, most=True),
            note="beside: what it costs when it is on",
        )


def _cost(task: Observed) -> Cost:
    done = subprocess.run(
        [sys.executable, "-m", "bench.observed"],
        input=msgspec.json.encode(task),
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        check=True,
    )
    return msgspec.json.decode(done.stdout, type=Cost)


# ------------------------------------------------------------------------------------------------------ a large log


def _large(room: Room) -> Iterator[Figure]:
    """Ask for every view of a console whose log is large."""
    import httpx

    from ensue.console import Console
    from tests.bookshop import Bookshop
    from tests.console_running import serving
    from tests.large_log import fill, first_dead, views

    events, dead = room.sized(10_000_000, 20_000), room.sized(100_000, 400)
    slowest, slow = "", 0.0
    with pair(room.postgres) as made:
        shop = Bookshop(made.url, schema=f"{made.schema}_shop")
        try:
            shop.app.migrate()
            with room.steps("filling a large log", 1) as step:
                fill(made.url, f"{made.schema}_shop", events, dead)
                step(1)
            paths = views(events, first_dead(made.url, f"{made.schema}_shop"))
            with (
                serving(Console(shop.app)) as address,
                httpx.Client(base_url=address, timeout=600, follow_redirects=True) as client,
            ):

                def measure() -> float:
                    nonlocal slowest, slow
                    worst = 0.0
                    for path in paths:
                        began = time.perf_counter()
                        client.get(path).raise_for_status()
                        took = time.perf_counter() - began
                        worst = max(worst, took)
                        if took > slow:
                            slowest, slow = path, took
                    return worst

                title = f"PostgreSQL, {events:,} events and {dead:,} dead letters: the slowest of {len(paths)} views"
                (found,) = room.interleave(title, [Side("console", measure)], runs=5)
        finally:
            shop.app.log.own.close()
            with psycopg.connect(made.url, autocommit=True) as connection:
                connection.execute("set client_min_messages = warning")
                connection.execute(f"drop schema if exists {made.schema}_shop cascade".encode())
                connection.execute(f"drop table if exists {shop.table}".encode())
    yield absolute(room.group, title, "s", found, target=Target(SLOWEST, most=True), note=f"the slowest: {slowest}")
