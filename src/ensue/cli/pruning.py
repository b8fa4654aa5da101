"""The command that deletes events which nobody needs any more: prune."""

from __future__ import annotations

from typing import Annotated

import typer

from ensue.cli.options import ActorOption, AppOption, DryRunOption, JsonOption, ReasonOption, YesOption
from ensue.cli.output import (
    BAD,
    DIM,
    Cell,
    confirm,
    count,
    moment,
    note,
    os_user,
    parse_moment,
    print_json,
    progress,
    put,
    say,
    table,
)
from ensue.cli.target import find_log
from ensue.errors import EnsueError
from ensue.history import History, Pruning
from ensue.history.pruning import Age
from ensue.log import Pruned
from ensue.subscriptions import seconds


def add_to(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command(short_help="Delete old events that nobody needs any more.")(prune)


def prune(
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="AGE", help="How old: 90d, 12h; or before which moment (UTC).")
    ],
    type: Annotated[
        list[str] | None, typer.Option("--type", metavar="TYPE", help="Only this type; may be given again.")
    ] = None,
    app: AppOption = None,
    reason: ReasonOption = "",
    actor: ActorOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Delete domain and integration events that are old enough and that every subscription has passed. It asks.

    Event-sourced events are never deleted, nor what is parked or queues behind it. It refuses, and says why, if a
    subscription has not passed all of it, or a hold keeps some; --dry-run shows that too, and what was pruned before.
    Deleting goes in small transactions, and may be broken off with Ctrl-C: what is gone is written down.
    """
    age = _age(older_than)
    history = find_log(app).app.history
    who = actor or os_user()
    with progress("Counting"):
        plan = history.prune(age, types=type or (), actor=who, reason=reason, dry_run=True)
    if dry_run:
        _show_plan(history, plan, json=json)
        if plan.needs:
            raise typer.Exit(1)
        return
    if plan.events and not plan.needs and not yes:
        if not json:
            _show_types(plan)
        confirm(f"Delete {count(plan.events, 'event')} for good?", yes=yes)
    done = _prune(history, plan, type or [], who, reason)
    if json:
        print_json(done)
    elif done.events:
        say(f"pruned {count(done.events, 'event')}, recorded before {moment(done.recorded_before)}")
    else:
        say(f"Nothing to prune that was recorded before {moment(plan.recorded_before)}.")


def _prune(history: History, plan: Pruning, types: list[str], who: str, reason: str) -> Pruning:
    with progress("Pruning") as step:
        try:
            return history.prune(plan.recorded_before, types=types, actor=who, reason=reason, progress=step)
        except KeyboardInterrupt:
            note("Broken off. What has been deleted is written down; begin again when you like.")
            raise


def _age(text: str) -> Age:
    try:
        seconds(text)
    except EnsueError:
        return parse_moment(text)
    return text


def _show_plan(history: History, plan: Pruning, *, json: bool) -> None:
    before = history.pruned()
    if json:
        print_json({"plan": plan, "pruned": before})
        return
    say(f"recorded before {moment(plan.recorded_before)}: up to position {plan.until}")
    _show_types(plan)
    if plan.holds:
        say()
        put(table(["hold", ">behind", "~reason"], [[each.name, each.position, each.reason] for each in plan.holds]))
    if before:
        say()
        _show_pruned(before)
    say()
    for need in plan.needs:
        say(f"would refuse: {need}", BAD)
    if not plan.needs:
        say(f"would prune {count(plan.events, 'event')}; nothing was done")


def _show_types(plan: Pruning) -> None:
    if plan.types:
        columns = ["type", ">events", ">from", ">to", ">parked or queued", ">last of a stream"]
        put(
            table(
                columns,
                [
                    [each.type, each.events, each.first_position, each.last_position, each.waiting, each.newest]
                    for each in plan.types
                ],
            )
        )


def _show_pruned(before: list[Pruned]) -> None:
    say("pruned before", DIM)
    rows: list[list[Cell]] = [
        [each.type, each.events, each.first_position, each.last_position, moment(each.pruned_at), each.actor]
        for each in before
    ]
    put(table(["type", ">events", ">from", ">to", "at", "actor"], rows))
