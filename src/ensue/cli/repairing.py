"""`ensue replay --key` and `--since`: some keys of a projection are repaired."""

from __future__ import annotations

import asyncio

import typer

from ensue.app.replaying import Replays
from ensue.cli.output import confirm, count, note, print_json, say
from ensue.cli.rate import bar
from ensue.cli.target import Target


def repair_keys(
    target: Target,
    replays: Replays,
    name: str,
    positions: tuple[int | None, int | None],
    types: list[str] | None,
    keys: list[str] | None,
    actor: str,
    reason: str,
    *,
    shadow: bool,
    dry_run: bool,
    yes: bool,
    json: bool,
) -> None:
    since, until = positions
    found = sorted(keys or []) if since is None else replays.touched(name, since=since, until=until, types=types or ())
    if since is not None and keys:
        found = [each for each in found if each in keys]
    if dry_run:
        if json:
            print_json({"keys": found})
        else:
            say(f"would repair {count(len(found), 'key')} of {name}: {', '.join(found[:20])}{' …' * (len(found) > 20)}")
        return
    if shadow:
        build = replays.begin(name, copied=True, actor=actor, reason=reason)
        asyncio.run(replays.build(build))
    else:
        confirm(f"Clear the rows of {count(len(found), 'key')} of {name} and apply their events again, live?", yes=yes)
        build = replays.mine(name)
    try:
        with bar(f"Repairing {build.cursor}") as progress:
            events = asyncio.run(replays.repair(build, found, progress=progress, actor=actor, reason=reason))
    except KeyboardInterrupt:
        note("Broken off between two keys; the same command goes on, and repairs again what is repaired already.")
        raise typer.Exit(130) from None
    if json:
        print_json({"build": build, "keys": len(found), "events": events})
        return
    say(f"{name}: {count(len(found), 'key')} repaired in build {build.number}, from {count(events, 'event')}")
    if shadow:
        say(f"compare: {target.command('projection', 'compare', name)}")
        say(f"switch:  {target.command('projection', 'switch', name)}")
