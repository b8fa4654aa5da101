"""`ensue replay --with-effects`: a reaction or a relay is called again."""

from __future__ import annotations

import asyncio

import typer

from ensue.cli.asked import Asked
from ensue.cli.output import confirm, count, note, print_json, say
from ensue.cli.rate import bar
from ensue.cli.target import TargetError
from ensue.errors import UnknownName


def call_again(asked: Asked, *, with_effects: bool) -> None:
    name, app = asked.name, asked.target.app
    if name not in app.declarations.subscriptions:
        known = ", ".join((*app.declarations.projections, *app.declarations.subscriptions)) or "nothing"
        raise UnknownName(f"{asked.target.spec} declares no {name!r}; it declares {known}")
    if not with_effects:
        raise TargetError(
            f"{name!r} is no projection: what it does reaches the outside, and would be done again. If that is what "
            "you want, say --with-effects"
        )
    if asked.since is None:
        raise TargetError("say from where: --since a moment, a position or the id of an event; --since 0 is everything")
    known_types = app.subscriptions[name].types
    if unknown := set(asked.types).difference(known_types):
        raise UnknownName(f"{name!r} gets no {', '.join(sorted(unknown))}; it gets {', '.join(known_types)}")
    if asked.dry_run:
        found = app.read(after=asked.since, until=asked.until, types=asked.types or known_types)
        events = sum(1 for each in found if not asked.keys or each.key in asked.keys)
        say(f"would call {name} again for {count(events, 'event')}")
        return
    confirm(
        f"Call {name} again for the events from position {asked.since + 1:,} on, with all its effects?", yes=asked.yes
    )
    try:
        with bar(f"Calling {name}") as progress:
            called = asyncio.run(
                app.replays.again(
                    name,
                    since=asked.since,
                    until=asked.until,
                    types=asked.types,
                    keys=asked.keys,
                    actor=asked.actor,
                    reason=asked.reason,
                    progress=progress,
                )
            )
    except KeyboardInterrupt:
        note("Broken off; the same command goes on where it was.")
        raise typer.Exit(130) from None
    if asked.json:
        print_json({"subscription": name, "events": called})
    else:
        say(f"{name} was called again for {count(called, 'event')}")
