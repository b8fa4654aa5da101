"""`ensue replay`: reads the log again, from any moment."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ensue.app.replaying import Replays
from ensue.cli.asked import Asked
from ensue.cli.building import build_anew
from ensue.cli.calling_again import call_again
from ensue.cli.options import ActorOption, AppOption, DryRunOption, JsonOption, ReasonOption, YesOption
from ensue.cli.output import os_user, parse_moment
from ensue.cli.projections import projection
from ensue.cli.repairing import repair_keys
from ensue.cli.target import Target, TargetError, find_log
from ensue.errors import UnknownName
from ensue.log import Selection


def add_to(cli: typer.Typer) -> None:
    """Add the commands."""
    cli.command(short_help="Read the log again, from any moment.")(replay)
    cli.add_typer(projection, name="projection", short_help="Compare and switch the builds of projections.")


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
        typer.Option("--type", "--types", "-t", metavar="TYPE", help="Only events of this type; may be repeated."),
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

    --shadow builds the projection anew beside the live tables, from the first event. No mail goes out and nothing is
    published: a projection writes its tables only. Ctrl-C breaks it off; the same command goes on with it. Then look at
    `ensue projection compare`, and switch with `ensue projection switch`.

    --from-live begins with a copy of the live tables instead, and goes on from where they are. It is right if the new
    code would have made the same rows of all events so far; where it cannot be, it is refused.

    --key and --since repair: the rows of those keys, or of all that got an event since, are cleared, and all events of
    these keys applied again, each key in one transaction. With --shadow that happens in a copy.

    --from-lake does either from a lake instead of the log, see `ensue lake`: what was pruned is there. With --source
    the events are those of another service, up to where the log has received them itself.

    Reactions and relays are called again only with --with-effects.
    """
    target = find_log(app)
    if source is not None and from_lake is None:
        raise TargetError("--source says whose events to take from a lake: say --from-lake too")
    replays = target.app.replays if from_lake is None else target.app.replays_from(from_lake, source=source)
    if from_lake is not None and (jobs > 1 or name not in target.app.declarations.projections):
        raise TargetError("--from-lake is for projections, and for one job")
    if engine is not None and (from_lake is None or not shadow or since is not None or key):
        raise TargetError("--engine builds anew from a lake: say --shadow and --from-lake, without --since and --key")
    asked = Asked(
        target=target,
        name=name,
        since=_position(target, replays, since, before=True),
        until=_position(target, replays, until, before=False),
        types=tuple(type or ()),
        keys=tuple(key or ()),
        lake=(
            *(() if from_lake is None else ("--from-lake", from_lake)),
            *(() if source is None else ("--source", source)),
        ),
        actor=actor or os_user(),
        reason=reason,
        dry_run=dry_run,
        yes=yes,
        json=json,
    )
    if name not in target.app.declarations.projections:
        call_again(asked, with_effects=with_effects)
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
        build_anew(asked, replays, jobs=jobs, engine=engine, from_live=from_live)
    elif from_live:
        raise TargetError("--key and --since repair, with --shadow in a copy of the live tables: leave --from-live out")
    else:
        repair_keys(asked, replays, shadow=shadow)


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
    try:
        moment = parse_moment(text)
    except typer.BadParameter as error:
        raise typer.BadParameter(f"{error.message}; or give a position, or the id of an event") from None
    return replays.position_at(moment) - 1
