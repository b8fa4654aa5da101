"""`ensue replay --shadow`: a projection is built anew beside the live tables."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

import typer

from ensue.app.replaying import Replays
from ensue.cli.output import WARN, count, note, print_json, say, span
from ensue.cli.rate import bar
from ensue.cli.target import Target, TargetError
from ensue.errors import ProjectionError
from ensue.handlers.projections import Build


def build_anew(
    target: Target,
    replays: Replays,
    name: str,
    jobs: int,
    engine: str | None,
    actor: str,
    reason: str,
    *,
    from_live: bool,
    dry_run: bool,
    json: bool,
) -> None:
    there = replays.builds(name)
    if dry_run:
        live = next((each for each in there if each.build.state == "live"), None)
        if live is None:
            raise ProjectionError(
                f"projection {name!r} has never been built: {target.command('migrate')} makes its tables"
            )
        how = "from its rows" if from_live else f"from {count(live.head, 'position')}"
        say(f"would build {name} anew, beside build {live.build.number}, {how}")
        return
    parts = jobs if jobs > 1 else None
    build = replays.begin(name, copied=from_live, partitions=parts, actor=actor, reason=reason)
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
        note(f"Broken off; to go on: {target.command('replay', name, '--shadow')}")
        raise typer.Exit(130) from None
    finally:
        for each in helpers:
            each.terminate()
        for each in helpers:
            each.wait()
    if json:
        print_json({"build": build, "reach": reached, "seconds": round(time.monotonic() - began, 3)})
        return
    say(f"{name}: build {build.number} has come to position {reached.slowest:,} in {span(time.monotonic() - began)}")
    if reached.parked:
        say(f"{count(reached.parked, 'key')} set aside: {target.command('dead', 'list')}", WARN)
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


def _helper(target: Target, build: Build) -> subprocess.Popen[bytes]:
    """Start another process that works on a build until it is ended."""
    code = (
        "import asyncio, sys; from ensue.cli.target import find_log; "
        "target = find_log(sys.argv[1]); replays = target.app.replays; "
        "(build,) = [s.build for s in replays.builds(sys.argv[2]) if s.build.number == int(sys.argv[3])]; "
        "asyncio.run(replays.build(build))"
    )
    return subprocess.Popen([sys.executable, "-c", code, target.spec, build.projection, str(build.number)])  # noqa: S603
