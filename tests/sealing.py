"""Logs that are sealed, for the tests of seals; and what somebody may do to them who holds the database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ensue import App, DomainEvent, IntegrationEvent, SourcedEvent
from ensue.seals import SigningKey, Verified, verifier

ANY_AGE = datetime(2100, 1, 1, tzinfo=UTC)
KEY = SigningKey("seals.test", bytes(range(32)))
KEYS = [KEY.public]


class Opened(DomainEvent, key="about", name="test.seals.opened"):
    about: str
    n: int


class Shipped(IntegrationEvent, version=1, name="test.seals.shipped"):
    n: int


class Counted(SourcedEvent, name="test.seals.counted"):
    by: int


def record(app: App, *events: Any, **options: Any) -> Any:
    with app.transaction() as connection:
        return app.record(*events, via=connection, **options)


def fill(app: App, count: int, at_once: int = 50) -> None:
    """Record events of all kinds, with a gap behind each transaction."""
    for start in range(0, count, at_once):
        numbers = range(start, min(start + at_once, count) - 1)
        several = [Opened(about=f"k{n % 7}", n=n) if n % 3 else Shipped(n=n) for n in numbers]
        record(app, *several)
        record(app, Counted(by=start), stream=f"counter-{start % 3}")
        with app.transaction() as connection:
            if is_postgres(app):
                connection.execute(f"select nextval('{app.log.place.schema}.positions')")
            else:
                connection.execute(
                    f"update sqlite_sequence set seq = seq + 1 where name = '{app.log.place.schema}_events'"
                )


def is_postgres(app: App) -> bool:
    return app.log.place.url.startswith("postgresql")


def table(app: App, name: str = "events") -> str:
    return f"{app.log.place.schema}{'.' if is_postgres(app) else '_'}{name}"


@contextmanager
def holding(app: App) -> Iterator[Any]:
    """Lend a connection to somebody who may write what he likes."""
    with app.transaction() as connection:
        if not is_postgres(app):
            connection.execute("pragma ignore_check_constraints = on")
        yield connection
        if not is_postgres(app):
            connection.execute("pragma ignore_check_constraints = off")


def do(app: App, sql: str, *values: Any) -> None:
    """Do something to the tables, which are written as `{events}`, `{seal_tiles}`."""
    names = {name: table(app, name) for name in ("events", "seal", "seal_tiles", "seal_checkpoints", "pruned")}
    text = sql
    for name, full in names.items():
        text = text.replace(f"{{{name}}}", full)
    with holding(app) as connection:
        connection.execute(text.replace("?", "%s") if is_postgres(app) else text, values or ())


def seal(app: App) -> Any:
    return app.seals.seal(KEY)


def verify(app: App, **options: Any) -> Verified:
    return app.seals.verify(keys=KEYS, **options)


def found(app: App, **options: Any) -> list[tuple[str, int, int]]:
    return [(each.kind, each.first_position, each.last_position) for each in verify(app, **options).findings]


def positions(app: App) -> list[int]:
    return [each.position for each in app.read()]


def auditor(folder: Path, app: App) -> list[verifier.Fault]:
    """Return what the stand-alone verifier says about an export and the events as they are."""
    checkpoints = verifier.exported_checkpoints(folder, KEYS)
    lines = (each.decode() for each in app.seals.events(keys=KEYS))
    return list(verifier.check_events(lines, verifier.exported_tiles(folder, checkpoints), checkpoints[-1].size))
