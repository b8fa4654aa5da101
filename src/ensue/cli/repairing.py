"""`ensue replay --key` and `--since`: some keys of a projection are repaired."""

from __future__ import annotations

import asyncio

import typer

from ensue.app.replaying import Replays
from ensue.cli.asked import Asked
from ensue.cli.output import confirm, count, note, print_json, say
from ensue.cli.rate import bar


def repair_keys(asked: Asked, replays: Replays, *, shadow: bool) -> None:
    name = asked.name
    found = sorted(asked.keys)
    if asked.since is not None:
        touched = replays.touched(name, since=asked.since, until=asked.until, types=asked.types)
        found = [each for each in touched if not asked.keys or each in asked.keys]
    if asked.dry_run:
        if asked.json:
            print_json({"keys": found})
        else:
            say(f"would repair {count(len(found), 'key')} of {name}: {', '.join(found[:20])}{' …' * (len(found) > 20)}")
        return
    if shadow:
        build = replays.begin(name, copied=True, actor=asked.actor, reason=asked.reason)
        asyncio.run(replays.build(build))
    else:
        what = f"Clear the rows of {count(len(found), 'key')} of {name} and apply their events again, live?"
        confirm(what, yes=asked.yes)
        build = replays.mine(name)
    try:
        with bar(f"Repairing {build.cursor}") as progress:
            repairing = replays.repair(build, found, progress=progress, actor=asked.actor, reason=asked.reason)
            events = asyncio.run(repairing)
    except KeyboardInterrupt:
        note("Broken off between two keys; the same command goes on, and repairs again what is repaired already.")
        raise typer.Exit(130) from None
    if asked.json:
        print_json({"build": build, "keys": len(found), "events": events})
        return
    say(f"{name}: {count(len(found), 'key')} repaired in build {build.number}, from {count(events, 'event')}")
    if shadow:
        say(f"compare: {asked.target.command('projection', 'compare', name)}")
        say(f"switch:  {asked.target.command('projection', 'switch', name)}")
