"""The commands about stored events: check."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from ensue.app.checking import Checked, unloadable
from ensue.cli.options import AppOption, JsonOption
from ensue.cli.output import BAD, DIM, GOOD, WARN, Cell, clean, count, print_json, progress, put, say, styled, table
from ensue.cli.target import find

events = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@events.callback()
def about() -> None:
    """Look at the events that are stored, all together."""


@events.command(short_help="See whether every stored event still loads.")
def check(
    app: AppOption = None,
    sample: Annotated[
        int, typer.Option(min=1, metavar="N", help="Load the N oldest and the N newest events of every type.")
    ] = 100,
    all: Annotated[bool, typer.Option("--all", help="Load every event.")] = False,
    json: JsonOption = False,
) -> None:
    """See whether every stored event still loads, with the classes and upcasters of today.

    It reads and changes nothing. The exit code is 1 if an event does not load. Fields that a class does not take are
    told too; they stay in the log.
    """
    target = find(app)
    with progress("Loading events") as step:
        found = target.app.operations.check_events(None if all else sample, progress=step)
    failed = list(unloadable(found))
    if json:
        print_json({"loads": not failed, "types": found})
    else:
        _print(found, failed)
    if failed:
        raise typer.Exit(1)


def _print(found: list[Checked], failed: list[Checked]) -> None:
    if not found:
        say("there are no events")
        return
    columns = ("type", "events", "looked at", "become", "unknown fields", "do not load")
    put(table(columns, [_row(each) for each in found]))
    for each in failed:
        for one in each.failures:
            say(Text.assemble((f"{one.position}  {one.id}  ", DIM), clean(one.reason)))
        if each.failed > len(each.failures):
            say(f"and {count(each.failed - len(each.failures), 'more event')} of {each.type}", DIM)
    say()
    lost = sum(each.failed for each in failed)
    say(f"{count(lost, 'event')} would not load" if lost else "everything loads", BAD if lost else GOOD)


def _row(each: Checked) -> tuple[Cell, ...]:
    become = ", ".join(name for name in each.becomes if name != each.type) or ("itself" if each.becomes else "")
    return (
        each.type,
        each.total,
        each.looked_at,
        become,
        styled(", ".join(f"{name} ({number})" for name, number in each.unknown_fields.items()), WARN),
        styled(str(each.failed), BAD) if each.failed else 0,
    )
