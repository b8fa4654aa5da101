"""Personal fields: what recording and reading an event costs in which two of them are encrypted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg

from bench.events import About, about, any_user, sign_ups
from bench.harness import Figure, Room, Side, rate
from bench.stores import files, open_file, pair
from ensue import App, IntegrationEvent, Personal
from ensue.keys import LocalKeys

_PERSONS = 1000


class SignedUpPersonally(IntegrationEvent, version=1, key="user_id", subject="user_id", name="bench.personal"):
    """As `bench.events.SignedUp`, with two personal fields."""

    user_id: Any
    email: Personal[str]
    name: Personal[str]
    plan: str
    referrer: str
    signed_up_at: Any


def figures(room: Room) -> Iterator[Figure]:
    """Compare with the same event without personal fields; of a person who is known, and of one who is new."""
    with pair(room.postgres) as made:
        app = App("bench", made.url, schema=made.schema, master_keys=LocalKeys(bytes(32)))
        with closing(psycopg.connect(made.url)) as via:
            yield from _recording(room, "PostgreSQL", app, via)
        yield _reading(room, "PostgreSQL", app)
    place = files(room.folder)
    app = App("bench", f"sqlite:///{place.log}", master_keys=LocalKeys(bytes(32)))
    with closing(open_file(place.log, "NORMAL")) as file:
        yield from _recording(room, "SQLite, synchronous NORMAL", app, file)
    yield _reading(room, "SQLite", app)


def _events(count: int, persons: int) -> list[SignedUpPersonally]:
    said: list[About] = [about(any_user(persons)) for _ in range(count)]
    return [SignedUpPersonally(**each) for each in said]


def _recording(room: Room, where: str, app: App, via: Any) -> Iterator[Figure]:
    count = room.sized(1000, 50)

    def recording(events: Any) -> float:
        def work() -> None:
            for event in events:
                app.record(event, via=via)
                via.commit()

        return rate(count, work)

    for persons, which in ((_PERSONS, f"any of {_PERSONS:,} persons"), (0, "always of a new person")):
        yield room.compare(
            f"{where}, one event per transaction, {which}",
            "/s",
            Side("two personal fields", lambda persons=persons: recording(_events(count, persons))),  # type: ignore[misc]
            Side("none", lambda persons=persons: recording(sign_ups(count, users=persons))),  # type: ignore[misc]
        )


def _reading(room: Room, where: str, app: App) -> Figure:
    count = room.sized(10_000, 100)
    with app.transaction() as connection:
        app.record(*_events(count, _PERSONS), via=connection)
    with app.transaction() as connection:
        receipt = app.record(*sign_ups(count, users=_PERSONS), via=connection)
    last = receipt.position

    def reading(before: int) -> float:
        def work() -> None:
            for each in app.read(after=last - before, until=last - before + count):
                assert each.event

        return rate(count, work)

    return room.compare(
        f"{where}, reading and decoding {count:,} events of {_PERSONS:,} persons",
        "/s",
        Side("two personal fields", lambda: reading(2 * count)),
        Side("none", lambda: reading(count)),
    )
