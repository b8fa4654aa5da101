"""Commands that set things going: run, migrate, demo, version."""

from __future__ import annotations

import asyncio
import logging
from enum import StrEnum
from typing import Annotated

import typer

from ensue.app import App
from ensue.cli.http import beside
from ensue.cli.logs import LogFormat, set_up
from ensue.cli.options import DryRunOption, JsonOption, TargetArgument
from ensue.cli.output import complain, note, print_json, progress, say
from ensue.cli.target import Target, TargetError, find
from ensue.cli.versions import versions
from ensue.errors import NotMigrated, NotPrepared
from ensue.integrations.logs import log_ids

logger = logging.getLogger("ensue")


class Level(StrEnum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def add_to(cli: typer.Typer) -> None:
    """Add the commands."""
    cli.command(short_help="Run the worker until SIGTERM or Ctrl-C.")(run)
    cli.command(short_help="Upgrade tables; register subscriptions, prepare receivers.")(migrate)
    cli.command(short_help="See four sign-ups under the same faults.")(demo)
    cli.command(short_help="Show what is installed.")(version)


def run(
    target: TargetArgument = None,
    lease: Annotated[
        float,
        typer.Option(min=0.5, metavar="SECONDS", help="After so long the work of a dead worker goes to others."),
    ] = 5.0,
    grace: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="How long the events in hand may take when it stops.")
    ] = 30.0,
    log_level: Annotated[Level | None, typer.Option(show_default="info", help="How much to log.")] = None,
    log_format: Annotated[LogFormat | None, typer.Option(show_default="text", help="How to log.")] = None,
    http: Annotated[
        str | None,
        typer.Option(metavar="[HOST:]PORT", help="Serve /healthz, /readyz and /metrics there; HOST is 127.0.0.1."),
    ] = None,
) -> None:
    """Run the worker until SIGTERM or Ctrl-C; then it finishes what it has in hand, and leaves.

    Run as many as you like, on as many machines: they share the work.

    It logs to the standard error. An application that sets up its own logging keeps it, unless --log-level or
    --log-format says otherwise. As JSON, a line about an event says which one: its id, position, correlation id and
    subscription, also if your handler logs it.
    """
    found = find(target)
    set_up(log_level and log_level.value, log_format)
    app = found.app
    if log_format is LogFormat.JSON:
        log_ids(app)
    app.check()
    if not app.subscriptions:
        raise TargetError(
            f"{found.spec} declares no subscription, so there is nothing to run: import the modules "
            "that hold the handlers where the App is made, or name the module that imports them"
        )
    logger.info("%s: the log is %s", app.name, app.log.place.shown)
    for each in app.subscriptions.values():
        parts = "" if each.partitions == 1 else f", {each.partitions} partitions"
        logger.info(
            "subscription %s: %s, %d at once%s",
            each.name,
            ", ".join(each.types) or "all events",
            each.concurrency,
            parts,
        )
    if http is None:
        app.run(lease=lease, grace=grace)
    else:
        with beside(app, http) as pulse:
            app.run(lease=lease, grace=grace, started=pulse.watch)
    logger.info("stopped")


def migrate(
    target: TargetArgument = None,
    no_brokers: Annotated[bool, typer.Option("--no-brokers", help="Prepare no receivers: go to no broker.")] = False,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Make or upgrade the tables of the log, register new subscriptions, prepare receivers at their brokers.

    It is idempotent, and safe to run while workers of this release or the one before are running.

    To prepare a receiver is to make its queue, durable consumer or group, so that nothing is lost that is published
    before its worker starts for the first time. If a broker cannot be reached, all else has been done, and it ends
    with 1.
    """
    found = find(target)
    found.app.check()
    operations = found.app.operations
    with progress("Migrating"):
        applied = operations.pending_migrations()
        if not dry_run:
            before = _registered(found.app)
            applied = found.app.migrate()
            new = sorted(_registered(found.app) - before)
        else:
            before = _registered(found.app)
            new = sorted(found.app.declarations.missing(before))
    vanished = sorted(each for each in before if not found.app.declarations.declares(each))
    receivers = [] if no_brokers else [each.subscription.name for each in found.app.declarations.receivers]
    prepared, missing = _prepare(found.app) if receivers and not dry_run else ({}, {})
    if json:
        print_json(
            {
                "applied": applied,
                "registered": new,
                "vanished": vanished,
                "prepared": prepared,
                "unprepared": missing,
                "dry_run": dry_run,
            }
        )
    else:
        _report(found, applied, new, vanished, dry_run=dry_run)
        made = [f"prepared receiver {name}: made {each}" for name in prepared for each in prepared[name]]
        if dry_run:
            made = [f"would prepare receiver {name}, if that has not been done" for name in receivers]
        for line in made:
            say(line)
        if not (applied or new or made or missing):
            say("nothing to do: the tables and the subscriptions are up to date")
    if missing:
        for name, why in missing.items():
            complain(f"receiver {name} is not prepared: {why}")
        note(
            "Everything else is done. What is published before the worker of such a receiver starts for the first time "
            f"may be lost to it. Try again: {found.command('migrate')}; --no-brokers leaves receivers out"
        )
        raise typer.Exit(1)


def _prepare(app: App) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Prepare the receivers; return what was made for each, and why it was not for others."""
    with progress("Preparing receivers"):
        try:
            return asyncio.run(app.prepare_receivers()), {}
        except NotPrepared as error:
            return error.made, error.failures


def _registered(app: App) -> set[str]:
    try:
        return {each.subscription for each in app.operations.standings()}
    except NotMigrated:
        return set()


def _report(target: Target, applied: list[str], new: list[str], vanished: list[str], *, dry_run: bool) -> None:
    would = "would " if dry_run else ""
    say(f"{target.app.name}: the log is {target.app.log.place.shown}")
    for name in applied:
        say(f"{would}apply migration {name}" if dry_run else f"applied migration {name}")
    for name in new:
        say(f"{would}register subscription {name}" if dry_run else f"registered subscription {name}")
    for name in vanished:
        note(
            f"subscription {name} is in the log, but the application declares it no more. "
            f"If it is gone for good: {target.command('retire', name)}"
        )


def demo(
    sign_ups: Annotated[int, typer.Option(min=1, help="How many people sign up.")] = 150,
    seed: Annotated[int, typer.Option(help="The same seed gives the same faults.")] = 1,
    database: Annotated[
        str | None, typer.Option(metavar="URL", help="Where the accounts are: a PostgreSQL URL. Default: SQLite.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Show four ways to do a sign-up under the same faults, side by side; only the last one loses nothing."""
    try:
        from ensue.demo.running import run_demo
    except ImportError as error:
        raise TargetError(f"the demo needs more packages ({error.name}): pip install 'ensue[demo]'") from error
    if database is not None:
        database = _reachable(database)
    raise typer.Exit(run_demo(sign_ups=sign_ups, seed=seed, database=database, json=json))


def _reachable(url: str) -> str:
    """Return the URL of a PostgreSQL database as libpq takes it, after having connected to it once."""
    if url.partition("://")[0].partition("+")[0] not in ("postgresql", "postgres"):
        raise TargetError(
            f"--database {url}: use the URL of a PostgreSQL database, postgresql://user@host/database, "
            "or leave it out: the demo then runs on SQLite"
        )
    log = App("demo", url).log
    with log.own.lend():
        return log.place.conninfo


def version(json: JsonOption = False) -> None:
    """Show the versions of ensue, Python, SQLite and the drivers that are installed."""
    found = versions()
    if json:
        print_json(found)
        return
    for name, number in found.items():
        say(f"{name:<12}{number}")
