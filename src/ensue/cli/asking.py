"""Commands that ask how things are: lag, audit."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ensue.app.seeing import Seen, look
from ensue.cli.options import AppOption, JsonOption
from ensue.cli.output import (
    BAD,
    DIM,
    GOOD,
    WARN,
    Cell,
    ago,
    console,
    line,
    moment,
    print_json,
    progress,
    put,
    raw,
    say,
    span,
    styled,
    table,
    until,
)
from ensue.cli.target import Target, find_log
from ensue.subscriptions.operating import AuditEntry


def add_to(cli: typer.Typer) -> None:
    """Add the commands."""
    cli.command(short_help="Show how far every subscription is.")(lag)
    cli.command(short_help="Show what operators did.")(audit)


# --- lag


def lag(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show it again and again, until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="With --watch: how often.")] = 2.0,
    app: AppOption = None,
    json: JsonOption = False,
) -> None:
    """Show how far every subscription is, what fails, and who works on it.

    State: up to date; working; held (what it needs is away, such as a broker); paused; idle (events wait and
    nobody works on it); vanished (the log knows it, the application does not declare it); not registered (the other
    way round: migrate or run registers it). Behind and age count from the lowest checkpoint; retrying and dead count
    keys.
    """
    target = find_log(app)
    if not watch:
        with progress("Counting"):
            rows = look(target.app)
        _print(rows, json=json)
        return
    with suppress(KeyboardInterrupt):
        if json or not console().is_terminal:
            while True:
                if json:
                    sys.stdout.write(msgspec.json.encode([_as_json(row) for row in look(target.app)]).decode() + "\n")
                else:
                    _print(look(target.app), json=False)
                    print()
                sys.stdout.flush()
                time.sleep(every)
        with Live(console=console(), auto_refresh=False, screen=False) as live:
            while True:
                live.update(_picture(target), refresh=True)
                time.sleep(every)


def _as_json(row: Seen) -> dict[str, Any]:
    standing: dict[str, Any] = {} if row.standing is None else msgspec.to_builtins(row.standing)
    return {
        **standing,
        "subscription": row.subscription,
        "state": row.state,
        "workers": row.workers,
        "free": row.free,
        "last_error": row.last_error,
    }


def _print(rows: list[Seen], *, json: bool) -> None:
    if json:
        print_json([_as_json(row) for row in rows])
    elif not rows:
        say("There is no subscription, in the log or in the application.")
    else:
        put(_table(rows))
        for more in _more(rows):
            say()
            put(more)


def _picture(target: Target) -> Group:
    rows = look(target.app)
    title = Text(f"{target.app.name}, {moment(datetime.now(UTC))}\n", style=DIM)
    return Group(title, _table(rows), *(part for more in _more(rows) for part in ("", more)))


def _table(rows: list[Seen]) -> Table | str:
    columns = ["subscription", "state", ">behind", ">age", ">retrying", ">dead", ">partitions", ">workers"]
    return table(columns, [_cells(row) for row in rows])


def _more(rows: list[Seen]) -> list[Table | str]:
    """Say of what does not go on why."""
    return [found for found in (_held(rows), _errors(rows)) if found is not None]


def _held(rows: list[Seen]) -> Table | str | None:
    cells: list[list[Cell]] = [
        [row.subscription, f"{ago(held.since)} ago", until(held.again_at), line(held.reason)]
        for row in rows
        if row.standing is not None and (held := row.standing.held) is not None
    ]
    return table(["held", "since", "next try", "~waits for"], cells) if cells else None


def _errors(rows: list[Seen]) -> Table | str | None:
    cells: list[list[Cell]] = [
        [row.subscription, f"{ago(error.failed_at)} ago", error.position, line(error.reason)]
        for row in rows
        if (error := row.last_error) is not None
    ]
    return table(["failing", "last", ">position", "~error"], cells) if cells else None


def _cells(row: Seen) -> list[Cell]:
    style = {"up to date": GOOD, "working": "", "paused": WARN}.get(row.state, BAD)
    cells: list[Cell] = [row.subscription, styled(row.state, style)]
    standing = row.standing
    if standing is None:
        return [*cells, *[None] * 6]
    free = f"{row.workers} ({row.free} free)" if row.free else str(row.workers)
    return [
        *cells,
        f"{standing.behind:,}",
        span(standing.seconds_behind) if standing.behind else None,
        styled(str(standing.retrying), WARN if standing.retrying else ""),
        styled(str(standing.dead), BAD if standing.dead else ""),
        len(standing.partitions),
        free,
    ]


# --- audit


def audit(
    number: Annotated[int, typer.Option("--last", "-n", min=1, metavar="N", help="The last N entries.")] = 50,
    subscription: Annotated[str | None, typer.Option(metavar="NAME", help="Only about this subscription.")] = None,
    app: AppOption = None,
    json: JsonOption = False,
) -> None:
    """Show what operators did, the latest first: who, what, when and why."""
    entries = find_log(app).app.operations.audit(number, subscription=subscription)
    if json:
        print_json([_entry(each) for each in entries])
    elif entries:
        rows = [
            [
                moment(datetime.fromisoformat(each.at)),
                each.actor,
                each.action,
                each.subscription,
                each.key,
                each.event_id,
                each.reason,
            ]
            for each in entries
        ]
        put(table(["at", "actor", "action", "subscription", "key", "event", "~reason"], rows))
    else:
        say("Nobody has done anything.")


def _entry(entry: AuditEntry) -> dict[str, Any]:
    return {
        "at": entry.at,
        "actor": entry.actor,
        "action": entry.action,
        "subscription": entry.subscription,
        "key": entry.key,
        "event_id": entry.event_id,
        "reason": entry.reason,
        "detail": raw(entry.detail),
    }
