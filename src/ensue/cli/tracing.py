"""The command that shows what caused what: trace."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from ensue.cli.looking import event_named
from ensue.cli.options import AppOption, JsonOption
from ensue.cli.output import BAD, DIM, GOOD, NAME, WARN, console, count, note, print_json, say, span, styled
from ensue.cli.target import Target, find_log
from ensue.history import Trace, Traced

_STATES = {"passed": GOOD, "parked": BAD, "queued": WARN}
_WIDE = 1_000_000
"""Columns where there is no terminal: nothing is cut."""


def add_to(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command(short_help="Show what caused an event, and what it caused.")(trace)


def trace(
    id: Annotated[str, typer.Argument(metavar="ID", help="The event's id, or its position.")],
    also: Annotated[
        list[str] | None,
        typer.Option(
            "--also", metavar="MODULE:NAME", help="Another application whose log is looked at too; may be given again."
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, metavar="N", help="Look at so many events of the same request in each log.")
    ] = 1000,
    app: AppOption = None,
    json: JsonOption = False,
) -> None:
    """Show the tree of what caused what around an event, from its furthest known cause to all that followed.

    Each line holds type, position, application, key or stream, and the time since the first event of the tree; below it
    stands how far the subscriptions are with it. Events of other services are found with --also.
    """
    target = find_log(app)
    others = [find_log(each).app for each in also or ()]
    if id.isdecimal():
        id = event_named(target.app, id).id_text
    found = target.app.history.trace(id, also=others, limit=limit)
    if json:
        print_json(found)
        return
    _draw(found, several=bool(others))
    _remarks(target, found)


def _draw(found: Trace, *, several: bool) -> None:
    below: list[Tree] = []
    for each in found.events:
        label = _label(each, asked=each.id == found.id, several=several)
        del below[each.depth :]
        below.append(below[-1].add(label) if below else Tree(label, guide_style=DIM))
    root = below[0]
    if console().is_terminal:
        Console(file=sys.stdout, highlight=False).print(root)
    else:
        Console(file=sys.stdout, highlight=False, width=_WIDE).print(root, soft_wrap=True)


def _label(each: Traced, *, asked: bool, several: bool) -> Text:
    if each.position is None:
        return Text.assemble(styled(each.id, NAME), ("  in no log that was looked at", DIM))
    where = f"{each.service} {each.position}" if several else str(each.position)
    text = Text.assemble(styled(each.type or "", NAME), "  ", styled(where))
    if (place := _place(each)) is not None:
        text.append_text(styled(f"  {place}", WARN))
    text.append_text(styled(f"  +{_since(each.seconds or 0.0)}", DIM))
    if asked:
        text.append("  <- asked about", style=GOOD)
    if each.received_from is not None:
        text.append_text(styled(f"\nreceived from {each.received_from}", DIM))
    for passage in each.subscriptions:
        published = passage.subscription in each.published_by
        state = "published" if published else passage.state
        text.append_text(styled(f"\n{passage.subscription} ", DIM)).append(state, style=_STATES.get(passage.state, ""))
    return text


def _place(each: Traced) -> str | None:
    return each.key if each.version is None else f"{each.stream}, version {each.version}"


def _since(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else span(seconds)


def _remarks(target: Target, found: Trace) -> None:
    known = [each for each in found.events if each.position is not None]
    took = max(each.seconds or 0.0 for each in known)
    say()
    say(f"{count(len(known), 'event')} in {_since(took)}")
    if found.beside:
        command = target.command("tail", "--no-follow", "--correlation", found.correlation_id)
        say(f"{count(found.beside, 'more event')} of the same request, of another cause: {command}", DIM)
    if not found.complete:
        note("There are more events of the same request than were looked at; --limit looks at more.")
    if found.root.position is None:
        note("What caused the first of them was recorded elsewhere, or has been pruned; --also looks at other logs.")
