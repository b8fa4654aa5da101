"""Commands that decide about what has failed: dead retry, skip, discard, edit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import typer

from ensue.cli.editing import by_hand, compact, difference, given
from ensue.cli.letters import (
    BeforeOption,
    Id,
    Ids,
    KeyOption,
    ReasonContainsOption,
    SinceOption,
    SubscriptionOption,
    TypeOption,
    as_json,
    chosen,
    letter_table,
    named,
)
from ensue.cli.options import ActorOption, AppOption, DryRunOption, JsonOption, ReasonOption, YesOption
from ensue.cli.output import (
    confirm,
    count,
    note,
    os_user,
    pretty,
    print_json,
    progress,
    put,
    say,
)
from ensue.cli.target import Target, find_log
from ensue.errors import UnknownName
from ensue.subscriptions.operating import DeadLetter, Decision, Filter

_NAMING = "Events are named by ids, or found by filters, which must all hold."


@dataclass(frozen=True)
class _Way:
    doing: str
    short: str
    help: str


_WAYS: dict[Decision, _Way] = {
    "retry": _Way(
        "Retrying",
        "Try again now.",
        "Try again now, with all attempts anew; then go on with what queues behind, in order.\n\n"
        f"{_NAMING} It asks before it does more than one.",
    ),
    "skip": _Way(
        "Skipping",
        "Give up an event, go on with those behind it.",
        "Give up an event, and go on with those of its key that queue behind it.\n\n"
        f"{_NAMING} It asks before it does more than one.",
    ),
    "discard": _Way(
        "Discarding",
        "Give up an event and those behind it.",
        f"Give up an event and all of its key that queue behind it. It always asks.\n\n{_NAMING} The log keeps them.",
    ),
}


def add_to(dead: typer.Typer) -> None:
    """Add the commands."""
    for decision in _WAYS:
        _add(dead, decision)
    dead.command(short_help="Change an event's contents, and try again.")(edit)


def _add(dead: typer.Typer, decision: Decision) -> None:
    def command(
        ids: Ids = None,
        subscription: SubscriptionOption = None,
        type: TypeOption = None,
        key: KeyOption = None,
        reason_contains: ReasonContainsOption = None,
        since: SinceOption = None,
        before: BeforeOption = None,
        all: Annotated[bool, typer.Option("--all", help="All dead letters.")] = False,
        app: AppOption = None,
        reason: ReasonOption = "",
        actor: ActorOption = None,
        dry_run: DryRunOption = False,
        yes: YesOption = False,
        json: JsonOption = False,
    ) -> None:
        # What is named by its id may also be one that is tried again by itself; a filter means dead letters.
        filter = chosen(subscription, type, key, reason_contains, since, before, waiting_only=not ids)
        if not ids and not all and filter == Filter():
            raise typer.BadParameter(f"which ones? Name ids, filter them, or say --all: ensue dead {decision} --help")
        if all and ids:
            raise typer.BadParameter("either ids or --all")
        _decide(find_log(app), decision, filter, ids, reason, actor or os_user(), dry_run=dry_run, yes=yes, json=json)

    dead.command(decision, short_help=_WAYS[decision].short, help=_WAYS[decision].help)(command)


def _decide(
    target: Target,
    decision: Decision,
    filter: Filter,
    ids: list[str] | None,
    reason: str,
    actor: str,
    *,
    dry_run: bool,
    yes: bool,
    json: bool,
) -> None:
    operations = target.app.operations
    with progress("Looking"):
        letters = operations.dead_letters(filter)
        if ids:
            letters = named(letters, ids)
        queued = operations.queued(letters)
    if letters and not dry_run:
        if (decision == "discard" or len(letters) > 1) and not yes:
            if not json:
                put(letter_table(letters, queued))
            confirm(_question(decision, letters, queued), yes=yes)
        exactly = replace(filter, ids=frozenset(letter.id for letter in letters))  # not what came in meanwhile
        with progress(_WAYS[decision].doing) as done:
            letters = operations.decide(exactly, decision, actor=actor, reason=reason, progress=done)
    if json:
        print_json([as_json(letter, None) for letter in letters])
    elif not letters:
        say("Nothing matches.")
    elif dry_run:
        put(letter_table(letters, queued))
        say(f"would {decision} {count(len(letters), 'event')}; nothing was done")
    else:
        say(f"{decision}: {count(len(letters), 'event')}; the worker carries it out, in the log's order")
        _warn_if_nobody_works(target)


def _question(decision: Decision, letters: list[DeadLetter], queued: list[int]) -> str:
    what = f"{decision.capitalize()} {count(len(letters), 'event')}"
    behind = sum(queued)
    if decision == "discard" and behind:
        what += f", and {count(behind, 'event')} behind {'them' if len(letters) > 1 else 'it'}"
    return what + "?"


def _warn_if_nobody_works(target: Target) -> None:
    if not target.app.operations.alive():
        note(f"No worker is alive: it will be done when one runs: {target.command('run')}")


def edit(
    id: Id,
    subscription: SubscriptionOption = None,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="JSON", help="The new contents: JSON, @file, or - for the standard input."),
    ] = None,
    app: AppOption = None,
    reason: ReasonOption = "",
    actor: ActorOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
) -> None:
    """Change the contents of a dead letter for this subscription, and try again now.

    Without --data it opens $VISUAL or $EDITOR. It shows what changes and asks before it is done. The log keeps the
    event as it was recorded, and other subscriptions are given that.
    """
    target = find_log(app)
    operations = target.app.operations
    letters = named(operations.dead_letters(Filter(subscription=subscription, waiting_only=False)), [id])
    if len(letters) > 1:
        names = ", ".join(letter.subscription for letter in letters)
        raise UnknownName(f"event {letters[0].position} is parked for {names}: say which with --subscription")
    (letter,) = letters
    if letter.data is None:
        raise UnknownName(f"event {letter.id} is no longer in the log: it can only be skipped or discarded")
    old = compact(letter.data)
    new = by_hand(pretty(letter.data), name=letter.id) if data is None else given(data)
    if new == old:
        say("Nothing has changed; nothing was done.")
        return
    for text, style in difference(old, new):
        say(text, style)
    if dry_run:
        say("nothing was done")
        return
    confirm(f"Deliver it to {letter.subscription} like this?", yes=yes)
    operations.edit(letter.subscription, letter.id, new, actor=actor or os_user(), reason=reason)
    say(f"edited: event {letter.position}; the worker tries it again")
    _warn_if_nobody_works(target)
