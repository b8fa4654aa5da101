"""Commands that look at what has failed: dead list, show."""

from __future__ import annotations

from typing import Annotated

import typer

from ensue.cli import deciding
from ensue.cli.letters import (
    BeforeOption,
    Id,
    KeyOption,
    ReasonContainsOption,
    SinceOption,
    SubscriptionOption,
    TypeOption,
    as_json,
    chosen,
    letter_table,
    named,
    next_step,
)
from ensue.cli.options import AppOption, JsonOption
from ensue.cli.output import (
    BAD,
    DIM,
    ago,
    coloured_json,
    count,
    moment,
    pretty,
    print_json,
    progress,
    put,
    put_facts,
    say,
    styled,
)
from ensue.cli.target import Target, find_log
from ensue.subscriptions.operating import DeadLetter, Filter

dead = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

_QUEUE_SHOWN = 20


@dead.callback()
def about() -> None:
    """Look at the events that could not be handled, and decide what happens with them.

    A dead letter is an event that a subscription has given up on. Its key is parked: later events of the key queue
    behind it, in order, and all other keys go on.
    """


@dead.command("list", short_help="List what has failed.")
def list_(
    subscription: SubscriptionOption = None,
    type: TypeOption = None,
    key: KeyOption = None,
    reason_contains: ReasonContainsOption = None,
    since: SinceOption = None,
    before: BeforeOption = None,
    all: Annotated[bool, typer.Option("--all", help="Also those that are tried again by themselves.")] = False,
    app: AppOption = None,
    json: JsonOption = False,
) -> None:
    """List the dead letters in the log's order, with how many events queue behind each."""
    target = find_log(app)
    filter = chosen(subscription, type, key, reason_contains, since, before, waiting_only=not all)
    with progress("Looking"):
        letters = target.app.operations.dead_letters(filter)
        queued = target.app.operations.queued(letters)
    if json:
        print_json([as_json(letter, behind) for letter, behind in zip(letters, queued, strict=True)])
    elif letters:
        put(letter_table(letters, queued))
    else:
        say("There are none." if filter == Filter(waiting_only=not all) else "Nothing matches.")


@dead.command(short_help="Show everything about one.")
def show(id: Id, subscription: SubscriptionOption = None, app: AppOption = None, json: JsonOption = False) -> None:
    """Show everything about a dead letter: the error with its traceback, the event, and what queues behind it."""
    target = find_log(app)
    operations = target.app.operations
    letters = named(operations.dead_letters(Filter(subscription=subscription, waiting_only=False)), [id])
    queued = operations.queued(letters)
    if json:
        print_json([as_json(letter, behind) for letter, behind in zip(letters, queued, strict=True)])
        return
    for letter, behind in zip(letters, queued, strict=True):
        _show(target, letter, behind)


def _show(target: Target, letter: DeadLetter, behind: int) -> None:
    put_facts(
        {
            "subscription": letter.subscription,
            "position": str(letter.position),
            "id": letter.id,
            "type": letter.type,
            "key": None if letter.key == letter.id else letter.key,
            "next": "waits for a person" if letter.next_step == "wait" else next_step(letter).plain,
            "attempts": str(letter.attempt),
            "parked": f"{moment(letter.parked_at)}, {ago(letter.parked_at)} ago",
            "failed last": f"{moment(letter.failed_at)}, {ago(letter.failed_at)} ago",
            "worker": letter.worker,
            "reason": styled(letter.reason, BAD),
        }
    )
    if letter.traceback:
        say()
        say(letter.traceback.rstrip())
    say()
    say("as a person has edited it" if letter.edited else "the event", DIM)
    say("it is no longer in the log" if letter.data is None else coloured_json(pretty(letter.data)))
    if behind:
        say()
        say(f"{count(behind, 'event')} of the key {'queue' if behind > 1 else 'queues'} behind it", DIM)
        for recorded in target.app.operations.waiting(letter)[:_QUEUE_SHOWN]:
            say(f"{recorded.position:>8}  {moment(recorded.recorded_at)}  {recorded.type}")
        if behind > _QUEUE_SHOWN:
            say(f"{'…':>8}")
    say()
    say("what you can do", DIM)
    for decision, what in (
        ("retry", "try again now"),
        ("edit", "change the event for this subscription, and try again"),
        ("skip", "give up this event, go on with those behind it"),
        ("discard", "give up this event and those behind it"),
    ):
        command = target.command("dead", decision, str(letter.position), "--subscription", letter.subscription)
        say(f"  {command}   ({what})")


deciding.add_to(dead)
