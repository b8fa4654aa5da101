"""What commands print: tables, JSON, times, questions and progress."""

from __future__ import annotations

import getpass
import os
import re
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import msgspec
import typer
from rich.cells import cell_len
from rich.console import Console
from rich.highlighter import JSONHighlighter
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from ensue.app.telling import ago, count, event_as_json, line, moment, pretty, raw, read_moment, span, until, when
from ensue.errors import DatabaseUnavailable, EnsueError

__all__ = [
    "BAD",
    "DIM",
    "GOOD",
    "NAME",
    "WARN",
    "Cell",
    "Refused",
    "ago",
    "clean",
    "coloured_json",
    "complain",
    "confirm",
    "console",
    "count",
    "event_as_json",
    "is_database_error",
    "is_outage",
    "line",
    "moment",
    "note",
    "os_user",
    "parse_moment",
    "pretty",
    "print_json",
    "progress",
    "put",
    "put_facts",
    "raw",
    "say",
    "span",
    "styled",
    "table",
    "until",
    "when",
]

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


def coloured_json(text: str) -> Text:
    """Return JSON with colours for terminals."""
    shown = Text(clean(text))
    JSONHighlighter().highlight(shown)
    return shown


# --- times


def parse_moment(text: str) -> datetime:
    """Read a moment: ISO 8601, in UTC unless it says otherwise, or how long ago: 90s, 15m, 2h, 3d."""
    if (found := read_moment(text)) is None:
        raise typer.BadParameter(
            f"{text!r} is no moment: write 2026-03-01, 2026-03-01T09:30, or how long ago: 90s, 15m, 2h, 3d"
        )
    return found


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
