"""`ensue replay --shadow`: a projection is built anew beside the live tables."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

import typer

from ensue.app.replaying import Replays
from ensue.cli.asked import Asked
from ensue.cli.output import WARN, count, note, print_json, say, span
from ensue.cli.rate import bar
from ensue.cli.target import Target, TargetError
from ensue.errors import ProjectionError
from ensue.handlers.projections import Build


def build_anew(asked: Asked, replays: Replays, *, jobs: int, engine: str | None, from_live: bool) -> None:
    target, name = asked.target, asked.name
    there = replays.builds(name)
    if asked.dry_run:
        live = next((each for each in there if each.build.state == "live"), None)
        if live is None:
            raise ProjectionError(
                f"projection {name!r} has never been built: {target.command('migrate')} makes its tables"
            )
        how = "from its rows" if from_live else f"from {count(live.head, 'position')}"
        say(f"would build {name} anew, beside build {live.build.number}, {how}")
        return
    parts = jobs if jobs > 1 else None
    build = replays.begin(name, copied=from_live, partitions=parts, actor=asked.actor, reason=asked.reason)
    if build in [each.build for each in there]:
        note(f"Build {build.number} was begun before, and goes on as it was begun. To begin anew, drop it first:")
        note(f"  {target.command('projection', 'drop', name, str(build.number))}")
    began = time.monotonic()
    if engine is not None:
        _spread(replays, build, engine)
    helpers = [_helper(target, build) for _ in range(jobs - 1)]
    try:
        with bar(f"Building {build.cursor}") as progress:
            reached = asyncio.run(replays.build(build, progress=progress))
    except KeyboardInterrupt:
        note(f"Broken off; to go on: {target.command('replay', name, '--shadow', *asked.lake)}")
        raise typer.Exit(130) from None
    finally:
        for each in helpers:
            each.terminate()
        for each in helpers:
            each.wait()
    left = _outstanding(replays, name)
    if asked.json:
        answer = {"build": build, "reach": reached, "seconds": round(time.monotonic() - began, 3)}
        print_json(answer if left is None else answer | {"outstanding": left})
        return
    say(f"{name}: build {build.number} has come to position {reached.slowest:,} in {span(time.monotonic() - began)}")
    if reached.parked:
        say(f"{count(reached.parked, 'key')} set aside: {target.command('dead', 'list')}", WARN)
    if left:
        _say_outstanding(asked, left)
    say(f"compare: {target.command('projection', 'compare', name)}")
    say(f"switch:  {target.command('projection', 'switch', name)}")


def _spread(replays: Replays, build: Build, engine: str) -> None:
    """Build what the lake covers on a cluster, unless that is done."""
    from ensue.app.lakes import LakeReplays

    if not isinstance(replays, LakeReplays):
        raise TargetError("--engine needs --from-lake")
    if not replays.untouched(build):
        return
    with bar(f"Folding {build.cursor}") as progress:
        events = replays.spread(build, engine, progress=progress)
    note(f"{count(events, 'event')} were folded")


def _outstanding(replays: Replays, name: str) -> list[str] | None:
    """Return the keys of which a lake has events that are left to the log; None without a lake."""
    from ensue.app.lakes import LakeReplays

    return replays.outstanding(name) if isinstance(replays, LakeReplays) else None


def _say_outstanding(asked: Asked, keys: list[str]) -> None:
    shown = f"{', '.join(keys[:20])}{' …' * (len(keys) > 20)}"
    say(f"of {count(len(keys), 'key')} the lake has events that this log has not received: {shown}", WARN)
    say("They were left out: what is on its way comes by itself. Of what never will, once nothing is on its way:")
    say(f"  {asked.target.command('replay', asked.name, '--key', keys[0], *asked.lake)}")


def _helper(target: Target, build: Build) -> subprocess.Popen[bytes]:
    """Start another process that works on a build until it is ended."""
    code = (
        "import asyncio, sys; from ensue.cli.target import find_log; "
        "target = find_log(sys.argv[1]); replays = target.app.replays; "
        "(build,) = [s.build for s in replays.builds(sys.argv[2]) if s.build.number == int(sys.argv[3])]; "
        "asyncio.run(replays.build(build))"
    )
    return subprocess.Popen([sys.executable, "-c", code, target.spec, build.projection, str(build.number)])  # noqa: S603
