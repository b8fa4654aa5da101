"""`ensue projection`: the builds of projections are listed, compared, switched and dropped."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from ensue.app.builds import BuildStanding, Comparison
from ensue.cli.options import ActorOption, AppOption, JsonOption, ReasonOption, YesOption
from ensue.cli.output import BAD, DIM, GOOD, NAME, WARN, confirm, os_user, print_json, put, say, styled, table
from ensue.cli.target import find_log
from ensue.errors import ProjectionError, UnknownName

projection = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The projection.", show_default=False)]
Number = Annotated[int, typer.Argument(metavar="BUILD", help="The build's number.", show_default=False)]
NumberOption = Annotated[
    int | None, typer.Option("--build", metavar="N", help="Which build. Default: the newest that is being built.")
]
ForceOption = Annotated[bool, typer.Option("--force", help="Switch although it is behind or has keys set aside.")]


@projection.callback()
def about() -> None:
    """Look at the builds of projections, compare them, and choose which one readers see."""


@projection.command("list", short_help="List the builds.")
def list_builds(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Only of this projection.")] = None,
    app: AppOption = None,
    json: JsonOption = False,
) -> None:
    """List the builds of projections: which one is live, and how far each is."""
    target = find_log(app)
    found = target.app.replays.builds(name)
    if json:
        print_json(found)
        return
    if not found:
        say("no projection has been built" if name is None else f"projection {name} has not been built")
        return
    put(
        table(
            ("projection", "build", "version", "state", "position", "behind", "set aside", "live since"),
            [_row(each) for each in found],
        )
    )


_STYLES = {"live": GOOD, "building": WARN, "kept": DIM}


def _row(standing: BuildStanding) -> tuple[Any, ...]:
    build, reach = standing.build, standing.reach
    return (
        styled(build.projection, NAME),
        str(build.number),
        str(build.version),
        styled(build.state + (" by hand" if build.by_hand and build.state == "building" else ""), _STYLES[build.state]),
        f"{reach.slowest:,}" if reach else "",
        f"{max(0, standing.head - reach.slowest):,}" if reach else "",
        str(reach.parked) if reach else "",
        (build.live_since or "")[:19].replace("T", " "),
    )


@projection.command("compare", short_help="Compare a build with the live one, row by row.")
def compare_builds(name: Name, build: NumberOption = None, app: AppOption = None, json: JsonOption = False) -> None:
    """Compare the tables of a build with the live ones: how many rows, how many differ, and some of those that do.

    The exit code is 1 if they differ.
    """
    target = find_log(app)
    found = target.app.replays.compare(name, build)
    if json:
        print_json({**_as_json(found), "same": found.same})
    else:
        _show(found)
    if not found.same:
        raise typer.Exit(1)


def _as_json(found: Comparison) -> dict[str, Any]:
    return {name: getattr(found, name) for name in ("live", "new", "live_reach", "new_reach", "tables")}


def _show(found: Comparison) -> None:
    here, there = found.live_reach, found.new_reach
    say(
        f"{found.live.projection}: build {found.live.number} (live, version {found.live.version}) at position "
        f"{here.slowest if here else 0:,}, build {found.new.number} (version {found.new.version}) at "
        f"{there.slowest if there else 0:,}"
    )
    for each in found.tables:
        say()
        what = "the same" if each.same else f"{each.only_live:,} rows only live, {each.only_new:,} only in the build"
        say(
            f"{each.table}: {each.live_rows:,} rows live, {each.new_rows:,} in the build; {what}",
            GOOD if each.same else BAD,
        )
        rows: list[tuple[Any, ...]] = []
        for label, sample in (("live", each.sample_live), (f"build {found.new.number}", each.sample_new)):
            rows += [(label, *("" if value is None else value for value in row)) for row in sample]
        if rows:
            put(table(("", *each.columns), sorted(rows, key=lambda row: str(row[1:]))))


@projection.command("switch", short_help="Let readers see the tables of another build.")
def switch_builds(
    name: Name,
    build: NumberOption = None,
    force: ForceOption = False,
    app: AppOption = None,
    actor: ActorOption = None,
    reason: ReasonOption = "",
    yes: YesOption = False,
) -> None:
    """Let readers see the tables of a build from one moment to the next. What they saw is kept, to switch back.

    It waits until the build is as far as the live one; what only `ensue replay` builds is kept up meanwhile.
    """
    target = find_log(app)
    replays = target.app.replays
    standings = replays.builds(name)
    chosen = [
        each.build
        for each in standings
        if each.build.state != "live"
        and (each.build.state == "building" if build is None else each.build.number == build)
    ]
    if not standings:
        raise UnknownName(f"the log has no projection {name!r}")
    if not chosen:
        raise ProjectionError(f"projection {name!r} has no such build: {target.command('projection', 'list', name)}")
    new, who = chosen[-1], actor or os_user()
    confirm(f"Switch {name} to build {new.number} (version {new.version})?", yes=yes)
    mine = (
        name in target.app.declarations.projections and target.app.declarations.projections[name].version == new.version
    )
    if mine:
        was = asyncio.run(replays.follow_and_switch(new, actor=who, reason=reason, force=force))
    else:
        was = replays.switch(name, new.number, actor=who, reason=reason, force=force)
    say(f"readers of {name} see build {new.number} now; to switch back:")
    say(f"  {target.command('projection', 'switch', name, '--build', str(was.number))}")


@projection.command("drop", short_help="Remove a build that is not live.")
def drop_build(
    name: Name,
    build: Number,
    app: AppOption = None,
    actor: ActorOption = None,
    reason: ReasonOption = "",
    yes: YesOption = False,
) -> None:
    """Remove a build that is not live, with its tables. It can be built again from the log."""
    target = find_log(app)
    confirm(f"Remove build {build} of {name}, with its tables?", yes=yes)
    target.app.replays.drop(name, build, actor=actor or os_user(), reason=reason)
    say(f"build {build} of {name} is gone")
