"""Relay, receiver and broker are killed twenty times each, while events pass from one service to another: each has its
effect once, in the order of its key.
"""

from __future__ import annotations

import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from tests.broker_servers import OwnNats, OwnRedis
from tests.broker_storm import Passage
from tests.patience import until_sync
from tests.processes import crew

EVENTS = 20_000
KILLS = 20
SECONDS = 20.0
"""How long the storm lasts, more or less."""


@pytest.fixture(params=["nats", "redis"])
def server(request: pytest.FixtureRequest) -> Iterator[OwnNats | OwnRedis]:
    made: dict[str, Callable[[], OwnNats | OwnRedis]] = {"nats": OwnNats, "redis": OwnRedis}
    with closing(made[request.param]()) as found:
        found.start_now()
        yield found


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_effect_once(server: OwnNats | OwnRedis, postgres_url: str, schema: str, tmp_path: Path) -> None:
    rage(Passage(postgres_url, schema, server.url, tmp_path / "raw"), server)


def rage(passage: Passage, server: OwnNats | OwnRedis) -> None:
    rng = random.Random(2028)
    orders, shipping = passage.orders(), passage.shipping()
    orders.migrate()
    shipping.migrate()
    effects = f"{passage.schema}_shipping.effects"
    with psycopg.connect(passage.database, autocommit=True) as connection, crew() as hired:
        connection.execute(f"create table {effects} (position bigserial primary key, tenant text, n integer)".encode())
        publisher, shipper = hired.start(passage.publish), hired.start(passage.ship)
        began, recorded = time.monotonic(), 0
        kills = [("publisher", "shipper", "server")[number % 3] for number in range(3 * KILLS)]
        rng.shuffle(kills)
        moments = sorted(rng.uniform(0.5, SECONDS) for _ in kills)
        for victim, moment in zip(kills, moments, strict=True):
            while (due := min(EVENTS, int(EVENTS * (time.monotonic() - began) / SECONDS))) > recorded:
                passage.record(orders, range(recorded, min(due, recorded + 500)))
                recorded = min(due, recorded + 500)
            time.sleep(max(0.0, began + moment - time.monotonic()))
            if victim == "publisher":
                hired.kill(publisher)
                publisher = hired.start(passage.publish)
            elif victim == "shipper":
                hired.kill(shipper)
                shipper = hired.start(passage.ship)
            else:
                server.end(kill=True)
                server.start_now()
        for first in range(recorded, EVENTS, 500):
            passage.record(orders, range(first, min(EVENTS, first + 500)))

        def done() -> int:
            row = connection.execute(f"select count(*) from {effects}".encode()).fetchone()
            return row[0] if row else 0

        until_sync(lambda: done() >= EVENTS, f"{EVENTS} effects", seconds=120)
        until_sync(lambda: all(each.behind == 0 for each in orders.operations.standings()), seconds=30)
        assert hired.stop(publisher) == 0
        assert hired.stop(shipper) == 0
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
