"""Actions on the builds of projections: most take long, and go on as jobs."""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec

from ensue.app.builds import Comparison
from ensue.app.telling import count
from ensue.console.acting import Given, Name, NeededWhy, Outcome, Why
from ensue.console.jobs import Job, Progress
from ensue.console.visits import Visit
from ensue.errors import ConsoleRefused, UnknownName
from ensue.handlers.projections import Build

BuildNumber = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]


class Replay(Given, frozen=True, kw_only=True):
    """Which projection is to be built anew, beside the live tables."""

    projection: Name
    reason: Why = ""


class Compare(Given, frozen=True, kw_only=True):
    """Which build of a projection is to be compared with the live one."""

    projection: Name
    build: BuildNumber


class Switch(Given, frozen=True, kw_only=True):
    """Which build of a projection readers are to see."""

    projection: Name
    build: BuildNumber
    force: bool = False
    """Although it is behind, or has keys set aside."""
    reason: NeededWhy


class DropBuild(Given, frozen=True, kw_only=True):
    """Which build of a projection is to be removed."""

    projection: Name
    build: BuildNumber
    reason: NeededWhy


def replay(given: Replay, visit: Visit) -> Outcome:
    """Build a projection anew beside the live tables, which stay as they are until somebody switches."""
    replays, actor = visit.app.replays, visit.visitor.name
    build = replays.begin(given.projection, actor=actor, reason=given.reason)

    def work(progress: Progress) -> str:
        reached = asyncio.run(replays.build(build, progress=progress))
        aside = f", {count(reached.parked, 'key')} set aside" if reached.parked else ""
        return f"Build {build.number} of {build.projection} has come to position {reached.slowest:,}{aside}."

    return _begun(visit.jobs.begin(f"replay {given.projection} into a shadow", actor, work))


def compare(given: Compare, visit: Visit) -> Outcome:
    """Compare the tables of a build with the live ones, row by row, as they are at one moment."""
    replays, build = visit.app.replays, _build(visit, given.projection, given.build)

    def work(_: Progress) -> str:
        found = replays.compare(build.projection, build.number)
        return f"Build {found.new.number} beside the live build {found.live.number}: {_differences(found)}."

    if build.state == "live":
        raise ConsoleRefused(f"build {given.build} of {given.projection} is the live one")
    return _begun(visit.jobs.begin(f"compare {given.projection} with build {given.build}", visit.visitor.name, work))


def switch(given: Switch, visit: Visit) -> Outcome:
    """Show readers the tables of a build, at one moment; the one that was live is kept."""
    replays, actor, build = visit.app.replays, visit.visitor.name, _build(visit, given.projection, given.build)

    def work(_: Progress) -> str:
        was = asyncio.run(
            replays.follow_and_switch(build, actor=actor, reason=given.reason, force=given.force, timeout=60.0)
        )
        return f"Readers of {given.projection} see build {given.build} now; build {was.number} is kept."

    if build.state == "live":
        raise ConsoleRefused(f"build {given.build} of {given.projection} is live already")
    return _begun(visit.jobs.begin(f"switch {given.projection}", actor, work))


def drop_build(given: DropBuild, visit: Visit) -> Outcome:
    """Remove a build that is not live, with its tables."""
    visit.app.replays.drop(given.projection, given.build, actor=visit.visitor.name, reason=given.reason)
    return Outcome(told=f"Build {given.build} of {given.projection} is gone.")


def _begun(job: Job) -> Outcome:
    return Outcome(told=f"{job.what}: it has begun.", job=job.number)


def _build(visit: Visit, projection: str, number: int) -> Build:
    for each in visit.app.replays.builds(projection):
        if each.build.number == number:
            return each.build
    raise UnknownName(f"projection {projection!r} has no build {number}")


def _differences(found: Comparison) -> str:
    return "; ".join(
        f"{each.table} is the same"
        if each.same
        else f"{each.table} differs: {count(each.only_live, 'row')} only in the live one, {each.only_new:,} in the new"
        for each in found.tables
    )
