"""Commands that steer subscriptions: pause, resume, retire, repartition."""

from __future__ import annotations

from typing import Annotated

import typer

from ensue.cli.options import ActorOption, AppOption, ReasonOption, YesOption
from ensue.cli.output import confirm, count, os_user, progress, say
from ensue.cli.target import Target, find_log
from ensue.errors import UnknownName
from ensue.subscriptions.standings import Standing

Names = Annotated[list[str], typer.Argument(metavar="NAME...", help="Subscriptions.", show_default=False)]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The subscription.", show_default=False)]


def add_to(cli: typer.Typer) -> None:
    """Add the commands."""
    cli.command(short_help="Stop subscriptions for a while.")(pause)
    cli.command(short_help="Let paused subscriptions go on.")(resume)
    cli.command(short_help="Forget a subscription for good.")(retire)
    cli.command(short_help="Cut a subscription into more or fewer parts.")(repartition)


def pause(names: Names, app: AppOption = None, reason: ReasonOption = "", actor: ActorOption = None) -> None:
    """Stop subscriptions on all workers, within a few seconds. Nothing is lost: their events wait."""
    target = find_log(app)
    _standings(target, names)
    for name in names:
        target.app.operations.pause(name, actor=actor or os_user(), reason=reason)
        say(f"{name} is paused; to go on: {target.command('resume', name)}")


def resume(names: Names, app: AppOption = None, reason: ReasonOption = "", actor: ActorOption = None) -> None:
    """Let paused subscriptions go on where they stopped."""
    target = find_log(app)
    _standings(target, names)
    for name in names:
        target.app.operations.resume(name, actor=actor or os_user(), reason=reason)
        say(f"{name} goes on")


def retire(
    name: Name, app: AppOption = None, reason: ReasonOption = "", actor: ActorOption = None, yes: YesOption = False
) -> None:
    """Forget a subscription for good: its checkpoint, and the events that it has parked."""
    target = find_log(app)
    (standing,) = _standings(target, [name])
    again = (
        " The application still declares it: the next migrate or run registers it anew, from its start."
        if name in target.app.subscriptions
        else ""
    )
    parked = standing.retrying + standing.dead
    confirm(
        f"Retire {name}? It has {count(standing.behind, 'event')} before it and {count(parked, 'parked key')}; "
        f"they are forgotten, the log keeps the events.{again}",
        yes=yes,
    )
    target.app.operations.retire(name, actor=actor or os_user(), reason=reason)
    say(f"{name} is retired")


def repartition(
    name: Name,
    parts: Annotated[int, typer.Argument(metavar="N", help="How many partitions, from 1 to 1024.", show_default=False)],
    app: AppOption = None,
    reason: ReasonOption = "",
    actor: ActorOption = None,
) -> None:
    """Cut a subscription into N partitions while it runs, so that N workers can share it.

    Nothing is delivered twice by it. The workers take the new partitions within a few seconds.
    """
    target = find_log(app)
    with progress("Repartitioning"):
        before = target.app.operations.repartition(name, parts, actor=actor or os_user(), reason=reason)
    say(f"{name} has {count(parts, 'partition')} now, and had {before}")


def _standings(target: Target, names: list[str]) -> list[Standing]:
    known = {each.subscription: each for each in target.app.operations.standings()}
    for name in names:
        if name not in known:
            raise UnknownName(
                f"the log has no subscription {name!r}; it has {', '.join(known) or 'none'}. Nothing was done"
            )
    return [known[name] for name in names]
