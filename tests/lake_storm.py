"""Three services that record, and collectors into one lake that are killed: for test_lake_storm.py.

`python -m tests.lake_storm record URL SCHEMA NAME COUNT SEED` records, in several threads and in transactions that
commit late or roll back; `collect URL SCHEMA NAME LAKE` collects until it is killed, and `finish` what is left.
"""

from __future__ import annotations

import random
import sqlite3
import sys
import threading
import time
from decimal import Decimal

from ensue import App, IntegrationEvent
from ensue.errors import Overtaken
from ensue.lake import Collector, Lake

THREADS = 3


class GoodsMoved(IntegrationEvent, version=1, key="shelf", name="lake_storm.GoodsMoved"):
    shelf: str
    pieces: int
    value: Decimal


class ShelfNamed(IntegrationEvent, version=2, key="shelf", name="lake_storm.ShelfNamed"):
    shelf: str
    name: str


class _Undo(Exception):
    pass


def record(url: str, schema: str, name: str, count: int, seed: int) -> None:
    """Record so many events that stay, and some that are rolled back."""
    app = App(name, url, schema=schema)
    shares = [count // THREADS + (number < count % THREADS) for number in range(THREADS)]
    threads = [threading.Thread(target=_record, args=(app, share, seed + n)) for n, share in enumerate(shares)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()


def _record(app: App, count: int, seed: int) -> None:
    dice = random.Random(seed)
    while count:
        size = min(count, dice.choice((1, 3, 20, 200)))
        try:
            with app.transaction() as connection:
                for _ in range(size):
                    app.record(_event(dice), via=connection)
                if dice.random() < 0.2 and url_is_postgres(app):
                    time.sleep(dice.random() / 20)  # it commits late: others with higher positions are faster
                if dice.random() < 0.1:
                    raise _Undo
        except _Undo:
            continue
        except sqlite3.OperationalError:  # many write, and SQLite has one writer at a time
            continue
        count -= size


def url_is_postgres(app: App) -> bool:
    """Tell whether transactions run side by side."""
    return app.log.place.url.startswith("postgres")


def _event(dice: random.Random) -> IntegrationEvent:
    shelf = f"shelf {dice.randrange(50)}"
    if dice.random() < 0.1:
        return ShelfNamed(shelf=shelf, name="Ä'\"\n\\ 漢")
    return GoodsMoved(shelf=shelf, pieces=dice.randrange(-9, 10), value=Decimal(dice.randrange(10**6)) / 100)


def collect(url: str, schema: str, name: str, lake: str) -> None:
    """Collect for ever, in small commits, so that a kill is likely to hit one."""
    app = App(name, url, schema=schema)
    while True:
        collector = Collector(app.log, Lake(lake), rows=700)
        try:
            while True:
                collector.step()
        except Overtaken:
            continue


def finish(url: str, schema: str, name: str, lake: str) -> None:
    """Collect what is left."""
    app = App(name, url, schema=schema)
    Collector(app.log, Lake(lake)).collect()


if __name__ == "__main__":
    what, url, schema, name, *more = sys.argv[1:]
    if what == "record":
        record(url, schema, name, int(more[0]), int(more[1]))
    else:
        (collect if what == "collect" else finish)(url, schema, name, more[0])
