"""What commands print: tables, JSON, times, questions and progress."""

from __future__ import annotations

import getpass
import os
import re
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import typer
from rich.cells import cell_len
from rich.console import Console
from rich.highlighter import JSONHighlighter
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from ensue.errors import DatabaseUnavailable, EnsueError
from ensue.events import Recorded
from ensue.subscriptions import seconds as duration

Cell = str | Text | int | None
GOOD, BAD, WARN, DIM, NAME = "green", "bold red", "yellow", "dim", "bold"
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Refused(EnsueError):
    """It needs a yes that nobody was there to give."""


# --- text


def console() -> Console:
    """Return what prints to the standard output as it is now; colours only on a terminal, never under NO_COLOR."""
    return Console(file=sys.stdout, highlight=False, soft_wrap=True)


def say(text: str | Text = "", style: str = "") -> None:
    """Print a line to the standard output."""
    console().print(styled(text, style))


def complain(message: str) -> None:
    """Print a line about an error to the standard error."""
    Console(file=sys.stderr, highlight=False, soft_wrap=True).print(
        Text("error: ", style=BAD).append(clean(message), style="not bold default")
    )


def note(message: str) -> None:
    """Print a remark to the standard error, out of the way of what is piped on."""
    Console(file=sys.stderr, highlight=False, soft_wrap=True).print(Text(clean(message)))


def styled(text: str | Text, style: str = "") -> Text:
    """Return text in a style, never taken for markup."""
    return text if isinstance(text, Text) else Text(clean(text), style=style)


def clean(text: str) -> str:
    """Return text that cannot steer a terminal: control characters are written out."""
    return _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def line(text: str) -> str:
    """Return a text on one line."""
    return " ".join(text.split())


def table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Table | str:
    """Return a table: as wide as the terminal, or, where there is none, as wide as its contents.

    A column whose name begins with `>` holds numbers, one with `~` long texts, which may be wrapped. None is shown as
    an empty place.
    """
    names = [name.lstrip(">~") for name in columns]
    right = [name.startswith(">") for name in columns]
    cells = [
        [styled("" if each is None else each if isinstance(each, Text) else str(each)) for each in row] for row in rows
    ]
    if not console().is_terminal:
        texts = [names, *([line(cell.plain) for cell in row] for row in cells)]
        widths = [max(cell_len(row[number]) for row in texts) for number in range(len(names))]
        return "\n".join(
            "  ".join(
                " " * (width - cell_len(text)) + text if to_right else text + " " * (width - cell_len(text))
                for text, width, to_right in zip(row, widths, right, strict=True)
            ).rstrip()
            for row in texts
        )
    shown = Table(box=None, pad_edge=False, header_style=NAME, padding=(0, 2, 0, 0))
    for name, marked in zip(names, columns, strict=True):
        wraps = marked.startswith("~")
        shown.add_column(
            name,
            justify="right" if marked.startswith(">") else "left",
            overflow="fold" if wraps else "ellipsis",
            no_wrap=not wraps,
            min_width=max(len(name), 24 if wraps else 0),
        )
    for row in cells:
        shown.add_row(*row)
    return shown


def put(what: Table | str) -> None:
    """Print a table."""
    if isinstance(what, str):
        print(what)
    else:
        Console(file=sys.stdout, highlight=False).print(what)


def put_facts(facts: dict[str, str | Text | None]) -> None:
    """Print what is known, one line each; what is not known is left out."""
    width = max(12, *map(len, facts)) + 1
    for name, value in facts.items():
        if value is not None:
            say(Text.assemble((f"{clean(name):<{width}}", DIM), styled(value)))


# --- JSON


def print_json(value: Any) -> None:
    """Print a value as JSON for programs, indented for people."""
    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def raw(text: str | None) -> Any:
    """Return stored JSON so that it is printed as it is; text that is none as text."""
    if text is None:
        return None
    try:
        return msgspec.Raw(msgspec.json.format(text.encode(), indent=-1))
    except (msgspec.DecodeError, UnicodeEncodeError):
        return text


def pretty(text: str) -> str:
    """Return stored JSON on several lines, its numbers to the letter; text that is none as it is."""
    try:
        return msgspec.json.format(text, indent=2)
    except msgspec.DecodeError:
        return text


def coloured_json(text: str) -> Text:
    """Return JSON with colours for terminals."""
    shown = Text(clean(text))
    JSONHighlighter().highlight(shown)
    return shown


def event_as_json(recorded: Recorded[Any]) -> dict[str, Any]:
    """Return an event as the log holds it, for programs; its class is not needed."""
    return {
        "position": recorded.position,
        "id": recorded.id_text,
        "type": recorded.type,
        "kind": recorded.kind_text,
        "stream": recorded.stream,
        "version": recorded.version,
        "key": recorded.key,
        "data": raw(recorded.shown),
        "metadata": raw(recorded.extra),
        "correlation_id": recorded.correlation_id,
        "causation_id": recorded.causation_id,
        "recorded_at": recorded.recorded_at,
    }


# --- times


def moment(at: datetime) -> str:
    """Return a moment for people, in UTC."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def ago(at: datetime) -> str:
    """Return how long ago it was."""
    return span((datetime.now(UTC) - at).total_seconds())


def until(at: datetime) -> str:
    """Return in how long it is."""
    left = (at - datetime.now(UTC)).total_seconds()
    return f"in {span(left)}" if left > 0 else "now"


def span(seconds: float) -> str:
    """Return a duration in its two largest units."""
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    whole = int(seconds)
    for size, unit, smaller_size, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller_size
            return f"{whole // size} {unit} {rest} {smaller}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def parse_moment(text: str) -> datetime:
    """Read a moment: ISO 8601, in UTC unless it says otherwise, or how long ago: 90s, 15m, 2h, 3d."""
    try:
        return datetime.now(UTC) - timedelta(seconds=duration(text))
    except EnsueError:
        pass
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no moment: write 2026-03-01, 2026-03-01T09:30, or how long ago: 90s, 15m, 2h, 3d"
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


# --- errors


def is_database_error(error: BaseException) -> bool:
    """Tell whether a driver raised it."""
    return type(error).__module__.partition(".")[0] in ("sqlite3", "psycopg")


def is_outage(error: BaseException) -> bool:
    """Tell whether the database may answer again later."""
    return isinstance(error, DatabaseUnavailable) or (
        is_database_error(error) and any(cls.__name__ == "OperationalError" for cls in type(error).__mro__)
    )


# --- people


def count(number: int, one: str, many: str | None = None) -> str:
    """Return "1 event", "2 events"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def confirm(question: str, *, yes: bool) -> None:
    """Ask, unless it was said already; raise `Refused` where nobody can be asked, and stop at a no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise Refused(f"{question} Nobody can be asked here (no terminal): say --yes to go on. Nothing was done")
    if not typer.confirm(question, err=True):
        note("Nothing was done.")
        raise typer.Exit(1)


def os_user() -> str:
    """Return who is at the keyboard."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


@contextmanager
def progress(what: str) -> Generator[Callable[[int, int], None]]:
    """Show a bar on the standard error, if that is a terminal, once it has taken a second.

    Yields what to call with how much is done and of how much; without a call the bar just moves.
    """
    err = Console(file=sys.stderr)
    if not err.is_terminal:
        yield lambda _done, _total: None
        return
    bar = Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=err, transient=True)
    task = bar.add_task(what, total=None)
    starter = threading.Timer(1.0, bar.start)
    starter.daemon = True
    starter.start()
    try:
        yield lambda done, total: bar.update(task, completed=done, total=total)
    finally:
        starter.cancel()
        starter.join()
        bar.stop()
