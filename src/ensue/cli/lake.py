"""Commands about lakes: collect, check, sql, compact, erase."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ensue.app import App
from ensue.cli.options import AppOption, DryRunOption, JsonOption, YesOption
from ensue.cli.output import BAD, DIM, GOOD, WARN, confirm, count, note, print_json, progress, put, say, span, table
from ensue.cli.target import find, find_log
from ensue.subscriptions import seconds

if TYPE_CHECKING:
    from ensue.lake import Collector, Finding, Lake

lake = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

LakeArgument = Annotated[
    str,
    typer.Argument(
        metavar="LAKE",
        envvar="ENSUE_LAKE",
        show_default=False,
        help="A folder or a URL such as s3://bucket/lake; with iceberg+, parquet+ or jsonl+ before it: in that format.",
    ),
]


@lake.callback()
def about() -> None:
    """Gather events in open table formats (Delta Lake, Iceberg, Parquet, JSON Lines), and use what was gathered.

    It needs more libraries: pip install 'ensue[lake]', and for Iceberg 'ensue[iceberg]'.
    """


@lake.command(short_help="Collect events from a log.")
def collect(
    place: LakeArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is recorded, until Ctrl-C.")] = False,
    every: Annotated[str, typer.Option(metavar="TIME", help="With --follow: how often it looks.")] = "10s",
    everything: Annotated[
        bool, typer.Option("--everything", help="Also domain and event-sourced events: for a lake of this service.")
    ] = False,
    types: Annotated[
        bool, typer.Option("--types/--no-types", help="Keep a table for each type, with its fields as columns.")
    ] = True,
    app: AppOption = None,
    json: JsonOption = False,
) -> None:
    """Collect the log into a lake: all that is not there yet, exactly once, in the log's order.

    It may be killed at any moment and begun again, and several may run. The log is held meanwhile: what the lake does
    not have yet is not pruned.
    """
    from ensue.lake import Collector, Lake

    pause = seconds(every)
    target = find_log(app)
    collector = Collector(target.app.log, Lake(place), everything=everything, types=types)
    for gone in collector.begin():
        note(f"pruned before it was collected, and not in the lake: {count(gone.events, 'event')} of {gone.type}")
    began, collected = time.monotonic(), 0
    try:
        with progress("Collecting") as step:
            collected = collector.collect(step)
        _say_collected(collector, collected, time.monotonic() - began, json=json)
        while follow:
            time.sleep(pause)
            if added := collector.collect():
                _say_collected(collector, added, 0.0, json=json)
    except KeyboardInterrupt:
        note("Stopped; the same command goes on.")
        raise typer.Exit(130) from None


def _say_collected(collector: Collector, events: int, took: float, *, json: bool) -> None:
    if json:
        print_json({"lake": str(collector.lake.address), "source": collector.source, "events": events})
    else:
        say(f"{collector.source}: {count(events, 'event')} collected" + (f" in {span(took)}" if took else ""))


@lake.command(short_help="Gather events of many services from a broker.")
def gather(
    place: LakeArgument,
    source: Annotated[
        str, typer.Option("--from", metavar="URL", help="The broker: nats://…, kafka://…, amqp://…, redis://….")
    ],
    topic: Annotated[list[str], typer.Option("--topic", "-t", metavar="TOPIC", help="What to read; may be repeated.")],
    group: Annotated[str, typer.Option(metavar="NAME", help="The group that the broker remembers.")] = "ensue-lake",
    quiet: Annotated[
        str | None,
        typer.Option(metavar="TIME", show_default=False, help="Stop when nothing has come for so long, as 5s."),
    ] = None,
    types: Annotated[
        bool, typer.Option("--types/--no-types", help="Keep a table for each type, with its fields as columns.")
    ] = True,
    app: AppOption = None,
    json: JsonOption = False,
) -> None:
    """Gather what services publish to a broker into a lake, each event once. It goes on until Ctrl-C, or --quiet.

    An application is not needed; with --app, tables are kept of the types that it knows.
    """
    from ensue.lake import Gatherer, Lake

    if app is not None:
        find(app)
    gatherer = Gatherer(Lake(place), source, topic, group=group, types=types)
    try:
        gathered = asyncio.run(gatherer.gather(quiet=None if quiet is None else seconds(quiet)))
    except KeyboardInterrupt:
        note("Stopped; the same command goes on.")
        raise typer.Exit(130) from None
    if json:
        print_json({"lake": place, "events": gathered})
    else:
        say(f"{count(gathered, 'event')} gathered")


@lake.command(short_help="Show the sources of a lake.")
def sources(place: LakeArgument, json: JsonOption = False) -> None:
    """Show where the events of a lake came from, how many they are, and how far each source has been collected."""
    from ensue.lake import Lake

    found = Lake(place).sources()
    if json:
        print_json(found)
        return
    columns = ("source", ">events", ">erased", ">position", "last recorded at")
    put(table(columns, [(e.source, e.events, e.erased, e.position, e.last_recorded_at) for e in found]))


@lake.command(short_help="Find holes and doubled events.")
def check(
    place: LakeArgument,
    against: Annotated[
        bool, typer.Option("--against-log", help="Compare it, event by event, with the log of the application too.")
    ] = False,
    app: AppOption = None,
    json: JsonOption = False,
) -> None:
    """Check that every source's events are there once, numbered without a gap, in the order of their log.

    The exit code is 1 if something is wrong. With --against-log it reads the log beside the lake, up to where the lake
    has come, and finds every event that only one of them has.
    """
    from ensue.lake import Lake

    found = Lake(place)
    findings = found.check()
    if against:
        findings += _against(found, find_log(app).app)
    standings = found.sources()
    if json:
        print_json({"sources": standings, "findings": findings})
    else:
        for each in standings:
            wrong = [finding for finding in findings if finding.source == each.source]
            what = f"{count(each.events, 'event')}, of which {each.erased:,} erased, numbers 1 to {each.sequence:,}"
            say(f"{each.source}: {what}: {'WRONG' if wrong else 'all there, once'}", BAD if wrong else GOOD)
        _show(findings)
    if findings:
        raise typer.Exit(1)


def _against(found: Lake, app: App) -> list[Finding]:
    from ensue.lake import compare, source_of

    kinds = () if found.contents == "everything" else ("integration",)
    with progress("Comparing") as step:
        return compare(found.events, source_of(app.name), app.log, kinds, progress=step)


def _show(findings: list[Finding]) -> None:
    if findings:
        put(table(("source", "what", "~"), [(each.source, each.what, each.detail) for each in findings]))


@lake.command(short_help="Ask in SQL.")
def sql(
    place: LakeArgument,
    query: Annotated[
        str, typer.Argument(metavar="SQL", help="In the words of DuckDB: select … from events …", show_default=False)
    ],
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Show so many rows at most.")] = 100,
    json: JsonOption = False,
) -> None:
    """Ask in SQL: of `events`, and of a table or view for each type of event, as order_placed_v1 for OrderPlaced.v1."""
    from ensue.lake import Lake

    answer: Any = Lake(place).sql(query)
    shown = answer.slice(0, limit)
    if json:
        print_json(shown.to_pylist())
        return
    rows = [[None if value is None else str(value) for value in row.values()] for row in shown.to_pylist()]
    put(table([f"{name}" for name in shown.column_names], rows))
    if answer.num_rows > limit:
        say(f"{limit} of {answer.num_rows:,} rows; --limit shows more", DIM)


@lake.command(short_help="Put small files together.")
def compact(
    place: LakeArgument,
    size: Annotated[int, typer.Option(metavar="MB", min=1, help="Files of about so many megabytes.")] = 128,
    json: JsonOption = False,
) -> None:
    """Put the small files of each day and type together, sorted. Collectors may go on meanwhile."""
    from ensue.lake import Lake

    with progress("Compacting"):
        done = Lake(place).compact(size * 1024 * 1024)
    if json:
        print_json(done)
        return
    put(table(("table", ">files before", ">after"), [(name, each.before, each.after) for name, each in done.items()]))


@lake.command(short_help="Take out what is said about somebody.")
def erase(
    place: LakeArgument,
    subject: Annotated[str, typer.Option("--subject", metavar="ID", help="Whom or what it is about.")],
    field: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            show_default=False,
            help="The member of the payload that says so, as customer.id. Default: what the event classes declare.",
        ),
    ] = None,
    app: AppOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Take out, for good, what the events about somebody say. It asks first.

    With --app, the application's event classes say whose their Personal fields are. Of types that it does not know, and
    without --app, it is the events whose key or stream is the subject.

    Each leaves a tombstone: its number, position, id, type and time, so that `check` finds nothing missing. The files
    that held it are deleted, and with them older versions of the tables. The log is not touched.
    """
    from ensue.lake import Lake

    if app is not None:
        find(app)
    found = Lake(place)
    ids = found.erase(subject, field=field, dry_run=True)
    if not dry_run and ids:
        confirm(f"Erase what {count(len(ids), 'event')} say about {subject}, for good?", yes=yes)
        with progress("Erasing"):
            ids = found.erase(subject, field=field)
    if json:
        print_json({"subject": subject, "events": ids, "erased": not dry_run})
    elif dry_run:
        say(f"would erase {count(len(ids), 'event')}; nothing was done", WARN)
    else:
        say(f"{count(len(ids), 'event')} erased")
