"""`ensue replay --with-effects`: a reaction or a relay is called again."""

from __future__ import annotations

import asyncio

import typer

from ensue.cli.output import confirm, count, note, print_json, say
from ensue.cli.rate import bar
from ensue.cli.target import Target, TargetError
from ensue.errors import UnknownName


def call_again(
    target: Target,
    name: str,
    positions: tuple[int | None, int | None],
    types: list[str] | None,
    keys: list[str] | None,
    actor: str,
    reason: str,
    with_effects: bool,
    *,
    dry_run: bool,
    yes: bool,
    json: bool,
) -> None:
    if name not in target.app.declarations.subscriptions:
        known = ", ".join((*target.app.declarations.projections, *target.app.declarations.subscriptions)) or "nothing"
        raise UnknownName(f"{target.spec} declares no {name!r}; it declares {known}")
    if not with_effects:
        raise TargetError(
            f"{name!r} is no projection: what it does reaches the outside, and would be done again. If that is what "
            "you want, say --with-effects"
        )
    since, until = positions
    if since is None:
        raise TargetError("say from where: --since a moment, a position or the id of an event; --since 0 is everything")
    known_types = target.app.subscriptions[name].types
    if unknown := set(types or ()).difference(known_types):
        raise UnknownName(f"{name!r} gets no {', '.join(sorted(unknown))}; it gets {', '.join(known_types)}")
    if dry_run:
        found = target.app.read(after=since, until=until, types=types or known_types)
        events = sum(1 for each in found if not keys or each.key in keys)
        say(f"would call {name} again for {count(events, 'event')}")
        return
    confirm(f"Call {name} again for the events from position {since + 1:,} on, with all its effects?", yes=yes)
    try:
        with bar(f"Calling {name}") as progress:
            called = asyncio.run(
                target.app.replays.again(
                    name,
                    since=since,
                    until=until,
                    types=types or (),
                    keys=keys or (),
                    actor=actor,
                    reason=reason,
                    progress=progress,
                )
            )
    except KeyboardInterrupt:
        note("Broken off; the same command goes on where it was.")
        raise typer.Exit(130) from None
    if json:
        print_json({"subscription": name, "events": called})
    else:
        say(f"{name} was called again for {count(called, 'event')}")
