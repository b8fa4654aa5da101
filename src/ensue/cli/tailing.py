"""The command that follows the log: tail."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Annotated, Any

import msgspec
import typer
from rich.text import Text

from ensue.app import App
from ensue.cli.options import AppOption
from ensue.cli.output import (
    DIM,
    NAME,
    WARN,
    clean,
    console,
    event_as_json,
    is_outage,
    line,
    moment,
    note,
    parse_moment,
    progress,
)
from ensue.cli.target import find_log
from ensue.events import Recorded

_POLL_SECONDS = 0.2
_LAST = 10

Emit = Callable[[Recorded[Any]], None]


def add_to(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command(short_help="Show the latest events and follow the log.")(tail)


@dataclass(frozen=True)
class _Wanted:
    types: tuple[str, ...]
    key: str | None
    stream: str | None
    correlation_id: str | None
    since: datetime | None

    def read(self, app: App, *, after: int, until: int, via: Any) -> Iterable[Recorded[Any]]:
        return app.read(
            after=after,
            until=until,
            since=self.since,
            types=self.types,
            key=self.key,
            stream=self.stream,
            correlation_id=self.correlation_id,
            via=via,
        )


def tail(
    type: Annotated[
        list[str] | None, typer.Option("--type", metavar="TYPE", help="Only this type; may be given again.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="Only events whose order is kept by this key.")] = None,
    stream: Annotated[str | None, typer.Option(help="Only this stream.")] = None,
    correlation: Annotated[str | None, typer.Option(metavar="ID", help="Only what belongs to this id.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="From this moment (UTC), or from 90s, 15m, 2h, 3d ago.")
    ] = None,
    after: Annotated[int | None, typer.Option(min=0, metavar="POSITION", help="From behind this position.")] = None,
    last: Annotated[
        int | None,
        typer.Option(
            "--last",
            "-n",
            min=0,
            metavar="N",
            show_default="10; all with --since or --after",
            help="Begin with the last N events.",
        ),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Wait for new events.")] = True,
    app: AppOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
) -> None:
    """Show the latest events and follow the log, until Ctrl-C.

    Events are shown in the order of the log, once nothing can appear before them any more, and as they are stored:
    their classes are not needed. On a terminal a line is cut where the terminal ends.
    """
    wanted = _Wanted(tuple(type or ()), key, stream, correlation, parse_moment(since) if since else None)
    target = find_log(app)
    if last is None and since is None and after is None:
        last = _LAST
    emit = _as_json if json else _as_line
    with suppress(KeyboardInterrupt):
        position = _begin(target.app, wanted, after or 0, last, emit)
        if follow:
            _follow(target.app, wanted, position, emit)


def _begin(app: App, wanted: _Wanted, after: int, last: int | None, emit: Emit) -> int:
    """Print what is there; return the position behind which to go on."""
    with app.operations.connection() as connection:
        horizon = app.operations.horizon(via=connection)
        read = partial(wanted.read, app, until=horizon, via=connection)
        if last is None:
            with progress("Reading") as done:
                quiet = sys.stdout.isatty()
                for recorded in read(after=after):
                    emit(recorded)
                    if not quiet:
                        done(recorded.position - after, horizon - after)
        else:
            for recorded in _last(read, after, horizon, last):
                emit(recorded)
        sys.stdout.flush()
    return max(horizon, after)


def _last(
    read: Callable[..., Iterable[Recorded[Any]]], after: int, horizon: int, number: int
) -> Iterable[Recorded[Any]]:
    """Return the last events by looking back further and further."""
    reach = 10 * number
    while number:
        start = max(after, horizon - reach)
        found = deque(read(after=start), maxlen=number)
        if len(found) == number or start == after:
            return found
        reach *= 10
    return ()


def _follow(app: App, wanted: _Wanted, start: int, emit: Emit) -> None:
    """Print new events for ever.

    After an outage it goes on behind the last event that it has printed: positions above it, which no event had yet,
    may be given out again when the database has crashed.
    """
    printed, pause = start, _POLL_SECONDS
    while True:
        try:
            for position in _news(app, wanted, printed, emit):
                printed, pause = position, _POLL_SECONDS
        except Exception as error:
            if not is_outage(error):
                raise
            pause = min(5.0, pause * 2)
            note(f"{line(str(error))}; again in {pause:.1f} s")
            time.sleep(pause)


def _news(app: App, wanted: _Wanted, position: int, emit: Emit) -> Iterator[int]:
    """Print new events until the database fails; yield the position of each."""
    with app.operations.connection() as connection:
        while True:
            horizon = app.operations.horizon(via=connection)
            if horizon > position:
                for recorded in wanted.read(app, after=position, until=horizon, via=connection):
                    emit(recorded)
                    yield recorded.position
                sys.stdout.flush()
                position = horizon
            time.sleep(_POLL_SECONDS)


def _as_json(recorded: Recorded[Any]) -> None:
    sys.stdout.write(msgspec.json.encode(event_as_json(recorded)).decode() + "\n")


def _as_line(recorded: Recorded[Any]) -> None:
    own = "" if recorded.key == recorded.id_text else clean(recorded.key)
    parts = (f"{recorded.position:>8}", moment(recorded.recorded_at), clean(recorded.type), own, clean(recorded.shown))
    out = console()
    if not out.is_terminal:
        sys.stdout.write("  ".join(parts) + "\n")
        return
    text = Text.assemble((parts[0], DIM), "  ", (parts[1], DIM), "  ", (parts[2], NAME), "  ", (own, WARN), "  ")
    text.append(line(parts[4]))
    text.truncate(out.width, overflow="ellipsis")
    out.print(text)
