"""Relay, receiver and broker are killed many times each, while events pass from one service to another: each has its
effect once, in the order of its key.

The Kafka of the tests is a substitute that acknowledges before the data is durable: killed, or while clients are at it
even stopped, it loses what it has acknowledged. So every connection to it is broken off, with what is under way, and
then it is stopped in good order and started again. A real cluster, ENSUE_TEST_KAFKA, has its connections broken off.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import psycopg
import pytest

from ensue import App
from tests.broker_servers import OwnNats, OwnRedis
from tests.broker_storm import Passage
from tests.broker_suite import Wanted
from tests.own_kafka import OwnKafka
from tests.own_rabbitmq import OwnRabbitMQ
from tests.patience import until_sync
from tests.processes import crew
from tests.tcp_proxy import Aside, Proxy

EVENTS = 20_000
START = 200
"""Events that have to have arrived before the storm begins: whatever the broker makes is made then."""
_ASKED = os.environ.get("ENSUE_TEST_KILLS")
KILLS = int(_ASKED or 20)
"""How often each of the three is killed."""
FEW = int(_ASKED or 8)
"""How often a broker is killed that needs five seconds to come back; ENSUE_TEST_KILLS=20 kills it as often, too."""


@dataclass(frozen=True)
class Target:
    """A broker in the storm."""

    url: str
    strike: Callable[[Sequence[BaseProcess]], None]
    """Bring it down under these clients, and up again."""
    seconds: float = 20.0
    """How long the storm lasts while it is up."""
    session: float | None = None
    strikes: int = KILLS


@contextmanager
def nats() -> Generator[Target]:
    with killed(OwnNats()) as target:
        yield target


@contextmanager
def redis() -> Generator[Target]:
    with killed(OwnRedis()) as target:
        yield target


@contextmanager
def killed(server: OwnNats | OwnRedis) -> Generator[Target]:
    def strike(_: Sequence[BaseProcess]) -> None:
        server.end(kill=True)
        server.start_now()

    with closing(server):
        server.start_now()
        yield Target(server.url, strike)


@contextmanager
def rabbitmq() -> Generator[Target]:
    with OwnRabbitMQ() as node:
        struck = 0

        def strike(_: Sequence[BaseProcess]) -> None:
            nonlocal struck
            node.crash(settled=struck > 0)
            node.start()  # takes it five seconds
            struck += 1

        yield Target(f"{node.url}?timeout=5", strike, strikes=FEW)


@contextmanager
def kafka() -> Generator[Target]:
    if where := os.environ.get("ENSUE_TEST_KAFKA"):
        yield Target(f"kafka://{where}?timeout=10&partitions=4", break_off, seconds=180, session=6, strikes=FEW)
        return

    def strike(_: Sequence[BaseProcess]) -> None:
        cable.tell(proxy.refuse)
        server.end(kill=False)
        server.start_now()
        cable.tell(proxy.resume)

    proxy = Proxy(0)
    with closing(OwnKafka(Wanted(proxy=proxy))) as server, Aside(proxy) as cable:
        server.start_now()
        yield Target(server.url, strike, seconds=60, session=6, strikes=FEW)


def break_off(clients: Sequence[BaseProcess]) -> None:
    """Have them break off their connections to the broker."""
    for client in clients:
        assert client.pid is not None
        os.kill(client.pid, signal.SIGURG)


@pytest.fixture(params=[nats, redis, rabbitmq, kafka], ids=lambda make: make.__name__)
def target(request: pytest.FixtureRequest) -> Generator[Target]:
    made: AbstractContextManager[Target] = request.param()
    with made as found:
        yield found


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_every_effect_once(target: Target, postgres_url: str, schema: str, tmp_path: Path) -> None:
    rage(Passage(postgres_url, schema, target.url, tmp_path / "raw", session=target.session), target)


def works(app: App, process: BaseProcess) -> bool:
    """Tell whether a process has all partitions of its app."""
    owners = [part.owner or "" for each in app.operations.standings() for part in each.partitions]
    return all(f":{process.pid}:" in owner for owner in owners)


def rage(passage: Passage, target: Target) -> None:
    rng = random.Random(2028)
    orders, shipping = passage.orders(), passage.shipping()
    orders.migrate()
    shipping.migrate()
    effects = f"{passage.schema}_shipping.effects"
    with psycopg.connect(passage.database, autocommit=True) as connection, crew() as hired:
        connection.execute(f"create table {effects} (position bigserial primary key, tenant text, n integer)".encode())

        def done() -> int:
            row = connection.execute(f"select count(distinct n) from {effects}".encode()).fetchone()
            return row[0] if row else 0

        publisher, shipper = hired.start(passage.publish), hired.start(passage.ship)
        kills = ["publisher", "shipper"] * KILLS + ["broker"] * (target.strikes - 1)
        rng.shuffle(kills)
        kills.append("broker")  # the substitute for Kafka forgets only then who is dead
        moments = sorted(rng.uniform(0.5, target.seconds) for _ in kills)
        edges = [START + (EVENTS - START) * number // len(kills) for number in range(len(kills) + 1)]
        passage.record(orders, range(START))
        until_sync(lambda: done() == START, "both are at work")
        began = time.monotonic()
        for number, (victim, moment) in enumerate(zip(kills, moments, strict=True)):
            passage.record(orders, range(edges[number], edges[number + 1]))
            time.sleep(max(0.0, began + moment - time.monotonic()))
            if victim == "publisher":
                hired.kill(publisher)
                publisher = hired.start(passage.publish)
            elif victim == "shipper":
                hired.kill(shipper)
                shipper = hired.start(passage.ship)
            else:
                struck = time.monotonic()
                target.strike([publisher, shipper])
                began += time.monotonic() - struck
        until_sync(lambda: done() >= EVENTS, f"{EVENTS} effects", seconds=120)
        until_sync(lambda: all(each.behind == 0 for each in orders.operations.standings()), seconds=30)
        for app, process in ((orders, publisher), (shipping, shipper)):
            until_sync(lambda: works(app, process), "the last one started is at work")
            assert hired.stop(process) == 0
        rows = connection.execute(f"select tenant, n from {effects} order by position".encode()).fetchall()

    raw = passage.raw.stat().st_size
    print(f"{raw} messages came for {EVENTS} effects")
    counts = Counter(n for _, n in rows)
    assert counts.keys() == set(range(EVENTS)), "something was lost"
    assert max(counts.values()) == 1, "something was done twice"
    assert raw > EVENTS, "no message came twice: this run shows nothing"
    by_tenant: dict[str, list[int]] = defaultdict(list)
    for tenant, n in rows:
        by_tenant[tenant].append(n)
    assert all(numbers == sorted(numbers) for numbers in by_tenant.values()), "out of order"
    assert orders.operations.dead_letters() == []
    assert shipping.operations.dead_letters() == []
