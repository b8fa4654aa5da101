"""The command that makes a person's data unreadable, or tells where it is: forget."""

from __future__ import annotations

from typing import Annotated

import typer

from ensue.app import App
from ensue.cli.options import ActorOption, AppOption, DryRunOption, JsonOption, ReasonOption, YesOption
from ensue.cli.output import (
    BAD,
    DIM,
    WARN,
    Cell,
    confirm,
    count,
    moment,
    os_user,
    print_json,
    progress,
    put,
    put_facts,
    say,
    table,
)
from ensue.cli.target import find_log
from ensue.history import Appearances

NOT_SWEPT = (
    "What is left of it is not swept up yet: somebody reads the SQLite file for long (do it again later), or this role "
    "of PostgreSQL does not own the table (let its owner vacuum it)"
)


def add_to(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command(short_help="Make a person's data unreadable, or tell where it is.")(forget)


def forget(
    subject: Annotated[str, typer.Argument(metavar="SUBJECT", help="The person's id, as its events hold it.")],
    report: Annotated[bool, typer.Option("--report", help="Only tell where the person appears.")] = False,
    app: AppOption = None,
    reason: ReasonOption = "",
    actor: ActorOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Destroy a person's key: everything personal in the log becomes unreadable, for good and everywhere. It asks.

    Events, streams and seals stay as they are; where something personal stood, masks are read. What projections and
    others have copied is not touched: --report tells who may have, before and after. --dry-run is the same as --report.
    """
    target = find_log(app)
    if report or dry_run:
        found = _look(target.app, subject)
        if json:
            print_json(found)
        else:
            _show(found)
            if dry_run:
                say("nothing was done")
        return
    if not yes:
        found = _look(target.app, subject)
        if not json:
            _show(found)
        confirm(f"Make everything personal about {subject} unreadable for good?", yes=yes)
    with progress("Forgetting"):
        done = target.app.forget(subject, actor=actor or os_user(), reason=reason)
    if json:
        print_json(done)
        return
    if done.known:
        say(f"forgotten: {subject}")
    else:
        say(f"There was no key of {subject}. From now on nothing personal is recorded about this subject.", WARN)
    if not done.swept:
        say(NOT_SWEPT, BAD)
    say(f"What to build again, and who may have copies: {target.command('forget', subject, '--report')}", DIM)


def _look(app: App, subject: str) -> Appearances:
    with progress("Reading the log") as step:
        return app.appearances(subject, progress=step)


def _show(found: Appearances) -> None:
    put_facts(
        {
            "subject": found.subject,
            "first seen": moment(found.since) if found.since else "never: nothing of it is encrypted here",
            "forgotten": moment(found.forgotten_at) if found.forgotten_at else "no",
        }
    )
    if found.events:
        rows: list[list[Cell]] = [
            [each.type, each.stream, each.events, each.first_position, each.last_position] for each in found.events
        ]
        say()
        put(table(["type", "stream", ">events", ">from", ">to"], rows))
    if found.elsewhere:
        say()
        put(table(["also in", ">rows"], [[name, number] for name, number in found.elsewhere.items()]))
    if found.handlers:
        say()
        say("These are given such events, and may have copies of their own:")
        for each in found.handlers:
            say(f"  {each}")
    for readable in found.readable:
        say()
        say(
            f"{count(readable.events, 'event')} of {readable.type} from {readable.first_position} to "
            f"{readable.last_position} hold {readable.field} unencrypted: forgetting does not reach them",
            BAD,
        )
