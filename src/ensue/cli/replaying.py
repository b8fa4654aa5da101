"""Commands that read the log again: replay, and those about the builds of projections."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from ensue.app.replaying import BuildStanding, Comparison, Replays
from ensue.cli.options import ActorOption, AppOption, DryRunOption, JsonOption, ReasonOption, YesOption
from ensue.cli.output import (
    BAD,
    DIM,
    GOOD,
    NAME,
    WARN,
    confirm,
    count,
    note,
    os_user,
    parse_moment,
    print_json,
    put,
    say,
    span,
    styled,
    table,
)
from ensue.cli.target import Target, TargetError, find_log
from ensue.errors import ProjectionError, UnknownName
from ensue.handlers.projections import Build
from ensue.log import Selection

projection = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The projection.", show_default=False)]
Number = Annotated[int, typer.Argument(metavar="BUILD", help="The build's number.", show_default=False)]
NumberOption = Annotated[
    int | None, typer.Option("--build", metavar="N", help="Which build. Default: the newest that is being built.")
]
ForceOption = Annotated[bool, typer.Option("--force", help="Switch although it is behind or has keys set aside.")]


def add_to(cli: typer.Typer) -> None:
    """Add the commands."""
    cli.command(short_help="Read the log again, from any moment.")(replay)
    cli.add_typer(projection, name="projection", short_help="Compare and switch the builds of projections.")


@projection.callback()
def about() -> None:
    """Look at the builds of projections, compare them, and choose which one readers see."""


def replay(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A projection, or a reaction.", show_default=False)],
    shadow: Annotated[
        bool, typer.Option("--shadow", help="Build beside the live tables, which stay as they are until you switch.")
    ] = False,
    from_live: Annotated[
        bool,
        typer.Option(
            "--from-live", help="Begin the build with a copy of the live tables: for a change that leaves them right."
        ),
    ] = False,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME|POSITION|ID",
            show_default=False,
            help="From there on: a moment, how long ago (2h), a position, or the id of an event.",
        ),
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME|POSITION|ID", show_default=False, help="Up to there, and no further.")
    ] = None,
    type: Annotated[
        list[str] | None,
        typer.Option("--type", "-t", metavar="TYPE", help="Only events of this type; may be repeated."),
    ] = None,
    key: Annotated[
        list[str] | None, typer.Option("--key", "-k", metavar="KEY", help="Only this key; may be repeated.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="How many processes build at once, parted by key.")] = 1,
    with_effects: Annotated[
        bool, typer.Option("--with-effects", help="A reaction or a relay: do again what it does.")
    ] = False,
    from_lake: Annotated[
        str | None,
        typer.Option(
            metavar="LAKE",
            show_default=False,
            help="A projection: read the events from this lake, as far as it has collected the log.",
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            show_default=False,
            help="With --from-lake: read what another service has published, as `ensue lake sources` shows it.",
        ),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            metavar="URL|N",
            show_default=False,
            help="With --from-lake and --shadow: fold on the workers of a Dask scheduler, or in N processes here.",
        ),
    ] = None,
    app: AppOption = None,
    actor: ActorOption = None,
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Read the log again, from any moment.

    --shadow builds the projection anew beside the live tables, from the first event, with nothing muted that could
    reach the outside, because a projection reaches nothing. Ctrl-C breaks it off; the same command goes on with it.
    Then look at `ensue projection compare`, and switch with `ensue projection switch`.

    --from-live begins with a copy of the live tables instead, and goes on from where they are. It is right if the new
    code would have made the same rows of all events so far; where it cannot be, it is refused.

    --key and --since repair: the rows of those keys, or of all that got an event since, are cleared, and all events of
    these keys applied again, each key in one transaction. With --shadow that happens in a copy.

    --from-lake does either from a lake instead of the log, see `ensue lake`: what was pruned is there. With --source the
    events are those of another service, and the log goes on behind them.

    Reactions and relays are called again only with --with-effects.
    """
    target = find_log(app)
    who = actor or os_user()
    if source is not None and from_lake is None:
        raise TargetError("--source says whose events to take from a lake: say --from-lake too")
    replays = target.app.replays if from_lake is None else target.app.replays_from(from_lake, source=source)
    if from_lake is not None and (jobs > 1 or name not in target.app.declarations.projections):
        raise TargetError("--from-lake is for projections, and for one job")
    if engine is not None and (from_lake is None or not shadow or since is not None or key):
        raise TargetError("--engine builds anew from a lake: say --shadow and --from-lake, without --since and --key")
    positions = (_position(target, replays, since, before=True), _position(target, replays, until, before=False))
    if name not in target.app.declarations.projections:
        _again(target, name, positions, type, key, who, reason, with_effects, dry_run=dry_run, yes=yes, json=json)
        return
    if with_effects:
        raise TargetError(f"{name!r} is a projection: it has no effects but its tables; leave --with-effects out")
    if since is None and not key:
        if until is not None or type:
            raise TargetError("--until and --type are about keys that are repaired: say --since or --key too")
        if not shadow:
            raise TargetError(
                f"all of {name!r} is built beside the live tables, so that readers never see half of it: say --shadow; "
                "or say which keys to repair, with --since or --key"
            )
        _build(target, replays, name, jobs, engine, from_live=from_live, dry_run=dry_run, json=json)
    elif from_live:
        raise TargetError("--key and --since repair, with --shadow in a copy of the live tables: leave --from-live out")
    else:
        _repair(
            target, replays, name, positions, type, key, who, reason, shadow=shadow, dry_run=dry_run, yes=yes, json=json
        )


# --- building anew


def _build(
    target: Target,
    replays: Replays,
    name: str,
    jobs: int,
    engine: str | None,
    *,
    from_live: bool,
    dry_run: bool,
    json: bool,
) -> None:
    there = replays.builds(name)
    if dry_run:
        (live,) = [each for each in there if each.build.state == "live"]
        how = "from its rows" if from_live else f"from {count(live.head, 'position')}"
        say(f"would build {name} anew, beside build {live.build.number}, {how}")
        return
    build = replays.begin(name, copied=from_live, partitions=jobs if jobs > 1 else None)
    if from_live and build in [each.build for each in there]:
        note(f"Build {build.number} was begun before; it goes on as it was begun. To begin anew, drop it first.")
    began = time.monotonic()
    if engine is not None:
        _spread(replays, build, engine)
    helpers = [_helper(target, build) for _ in range(jobs - 1)]
    try:
        with _bar(f"Building {build.cursor}") as progress:
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
    with _bar(f"Folding {build.cursor}") as progress:
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


@contextmanager
def _bar(what: str) -> Generator[Callable[[int, int], None]]:
    """Show how much is done, how fast, and how long it will take."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(show_speed=True),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f}"),
        TimeRemainingColumn(),
    )
    err = Console(file=sys.stderr)
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task(what, total=1)
        yield lambda done, total: bar.update(task, completed=done, total=max(1, total))


# --- repairing


def _repair(
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
        build = replays.begin(name, copied=True)
        asyncio.run(replays.build(build))
    else:
        confirm(f"Clear the rows of {count(len(found), 'key')} of {name} and apply their events again, live?", yes=yes)
        build = replays.mine(name)
    try:
        with _bar(f"Repairing {build.cursor}") as progress:
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


# --- reactions


def _again(
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
    if len(keys or []) > 1:
        raise TargetError("one --key at a time, please")
    key = keys[0] if keys else None
    if dry_run:
        wanted = [each for each in target.app.subscriptions[name].types if not types or each in types]
        events = sum(1 for _ in target.app.read(after=since, until=until, types=wanted, key=key))
        say(f"would call {name} again for {count(events, 'event')}")
        return
    confirm(f"Call {name} again for the events from position {since:,} on, with all its effects?", yes=yes)
    with _bar(f"Calling {name}") as progress:
        called = asyncio.run(
            target.app.replays.again(
                name,
                since=since,
                until=until,
                types=types or (),
                key=key,
                actor=actor,
                reason=reason,
                progress=progress,
            )
        )
    if json:
        print_json({"subscription": name, "events": called})
    else:
        say(f"{name} was called again for {count(called, 'event')}")


def _position(target: Target, replays: Replays, text: str | None, *, before: bool) -> int | None:
    """Return the position that a text means; `before`: the one before it, behind which reading begins."""
    if text is None:
        return None
    if text.isdecimal():
        return max(0, int(text) - before)
    if len(text) == 36 and text.count("-") == 4:
        found: list[Any] = target.app.log.own.run(target.app.log.read(Selection(id=text), 1))
        if not found:
            raise UnknownName(f"the log has no event {text}")
        return int(found[0].position) - before
    return replays.position_at(parse_moment(text)) - 1


# --- builds


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
