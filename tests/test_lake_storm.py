"""Collectors of three services into one lake are killed at random moments: no event is lost, doubled or reordered.

ENSUE_TEST_LAKE_KILLS and ENSUE_TEST_LAKE_EVENTS make it larger.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ensue import App
from ensue.lake import Collector, Lake, compare, source_of
from tests.lake_storm import record

KILLS = int(os.environ.get("ENSUE_TEST_LAKE_KILLS", "2"))
EVENTS = int(os.environ.get("ENSUE_TEST_LAKE_EVENTS", "1800"))
SERVICES = ("lake_orders", "lake_stock", "lake_billing")


def _process(*arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "tests.lake_storm", *map(str, arguments)])


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("format", ["delta", "iceberg"])
def test_collectors_that_are_killed_neither_lose_nor_double(format: str, tmp_path: Path, postgres_url: str) -> None:
    dice = random.Random(os.environ.get("ENSUE_TEST_SEED", f"lake {format}"))
    lake = f"{format}+{tmp_path}/lake"
    urls = [postgres_url, postgres_url, f"sqlite:///{tmp_path}/billing.db"]
    services = list(zip(SERVICES, urls, strict=True))
    apps = [App(name, url, schema=f"{name}_{format}"[:40]) for name, url in services]
    for app in apps:
        app.migrate()
    Lake(lake).begin("integration")
    producers = [
        threading.Thread(target=record, args=(app, EVENTS // 3, number), daemon=True) for number, app in enumerate(apps)
    ]
    for producer in producers:
        producer.start()
    collectors = [_collector(app, lake) for app in apps]
    killed = 0
    try:
        while killed < KILLS:
            time.sleep(dice.uniform(0.7, 2.0))  # the moment of the kill
            victim = dice.randrange(3)
            collectors[victim].kill()
            collectors[victim].wait()
            killed += 1
            collectors[victim] = _collector(apps[victim], lake)
        for producer in producers:
            producer.join()
    finally:
        for each in collectors:
            each.kill()
            each.wait()
    for app in apps:
        Collector(app.log, Lake(lake)).collect()

    found = Lake(lake)
    assert found.check() == []
    counted = {each.source: each.events for each in found.sources()}
    for app in apps:
        recorded = sum(1 for _ in app.read())
        assert recorded == EVENTS // 3
        assert counted[source_of(app.name)] == recorded
        assert compare(found.events, source_of(app.name), app.log, ("integration",)) == []
    typed = found.sql(
        "select (select count(*) from lake_storm_goods_moved_v1) as moved, "
        "(select count(*) from lake_storm_shelf_named_v2) as named, count(*) as events from events"
    ).to_pylist()[0]
    assert typed["moved"] + typed["named"] == typed["events"] == EVENTS // 3 * 3
    doubled = "select count(*) as n from (select id from lake_storm_goods_moved_v1 group by id having count(*) > 1)"
    assert found.sql(doubled).to_pylist() == [{"n": 0}]


def _collector(app: App, lake: str) -> subprocess.Popen[bytes]:
    return _process(app.log.place.url, app.log.place.schema, app.name, lake)
