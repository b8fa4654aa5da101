"""The command that compares an aggregate at two versions: diff."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer
from rich.text import Text

from ensue.aggregates import Change
from ensue.cli.options import AppOption, JsonOption
from ensue.cli.output import (
    BAD,
    DIM,
    GOOD,
    NAME,
    Cell,
    clean,
    event_as_json,
    moment,
    print_json,
    put,
    say,
    styled,
    table,
)
from ensue.cli.target import find_log
from ensue.history import Difference


def add_to(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command(short_help="Compare an aggregate at two versions.")(diff)


def diff(
    stream: Annotated[str, typer.Argument(metavar="STREAM", help="The aggregate's stream: wallet-7.")],
    first: Annotated[int, typer.Argument(metavar="V1", min=0, help="The earlier version; 0: before it began.")],
    last: Annotated[int, typer.Argument(metavar="V2", min=1, help="The later version.")],
    app: AppOption = None,
    json: JsonOption = False,
) -> None:
    """Compare an aggregate at two of its versions: the parts of its state that differ, and the events between."""
    found = find_log(app).app.history.diff(stream, first, last)
    if json:
        print_json(_as_json(found))
        return
    changed = found.changed
    if changed:
        rows: list[list[Cell]] = [
            [name, styled(_value(old), BAD), styled(_value(new), GOOD)] for name, (old, new) in changed.items()
        ]
        put(table(["field", f"~version {first}", f"~version {last}"], rows))
    else:
        say("The state is the same.")
    say()
    for each in found.events:
        say(_line(each))


def _as_json(found: Difference) -> dict[str, Any]:
    return {
        "stream": found.stream,
        "first": found.first,
        "last": found.last,
        "changed": _pairs(found.changed),
        "events": [{**event_as_json(each.recorded), "changed": _pairs(each.diff)} for each in found.events],
    }


def _pairs(changed: dict[str, tuple[Any, Any]]) -> dict[str, dict[str, Any]]:
    return {name: {"before": before, "after": after} for name, (before, after) in changed.items()}


def _value(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _line(change: Change) -> Text:
    recorded = change.recorded
    who = f"  {recorded.metadata.actor}" if recorded.extra and recorded.metadata.actor else ""
    return Text.assemble(
        (f"{change.version:>8}", DIM),
        "  ",
        (moment(change.at), DIM),
        "  ",
        (clean(recorded.type), NAME),
        clean(who),
        "  ",
        clean(recorded.shown),
    )
