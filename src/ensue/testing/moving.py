"""Another place for an application's log, and another time, for as long as a test lasts."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from ensue.app import App
from ensue.errors import DeclarationError
from ensue.log import Log, Place, Steps, open_sqlite
from ensue.log.own import Own
from ensue.subscriptions import seconds


@contextmanager
def log_at(app: App, url: str) -> Generator[App]:
    """Let an application have its log at another URL as long as the block lasts; the log is made there.

    Its declarations stay. Connections of your own have to lead there, too: else recording raises `WrongDatabase`. Not
    while a worker of the application runs. Raises `DeclarationError` for a URL that cannot be used.
    """
    log = app.log
    before = log.place, log.dialect, log.own
    place = Place(app.name, url, log.place.schema)
    own = Own(place)
    own.observer = log.observer
    anchor = open_sqlite(place) if place.in_memory else None  # a log in memory lives as long as somebody is connected
    log.place, log.dialect, log.own = place, place.dialect, own
    try:
        app.migrate()
        yield app
    finally:
        own.close()
        if anchor is not None:
            anchor.close()
        log.place, log.dialect, log.own = before


class Clock:
    """A clock to move: what an application waits for comes nearer.

    Timers, ticks of schedules, and retries of what has failed are due so much sooner. What is recorded bears the real
    time, and so does what your code asks the system's clock.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._moved = timedelta()

    def now(self) -> datetime:
        """Return what time it is by this clock."""
        return datetime.now(UTC) + self._moved

    def move(self, duration: float | timedelta | str) -> None:
        """Move it forward, by seconds, a timedelta, or text such as "3d"; `settle()` then does what is due.

        Of the ticks of a schedule that lie in between the last one counts, as after an outage. Raises
        `DeclarationError` for what is no duration, or goes back.
        """
        moved = seconds(duration)
        if moved < 0:
            raise DeclarationError(f"move({duration!r}): this clock goes forward only")
        log = self._app.log
        with log.own.lend() as connection:
            log.run(log.transaction(_hasten(log, moved)), connection)
        self._moved += timedelta(seconds=moved)
        self._app.declarations.alarm.due_in(0.0)


def _hasten(log: Log, moved: float) -> Steps[None]:
    for name in ("hasten_timers", "hasten_parked", "hasten_schedules"):
        yield log.dialect.sql[name](seconds=moved)
