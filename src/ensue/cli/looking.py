"""The command that looks at one event, or at one aggregate: show."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
import typer
from rich.text import Text

from ensue.app import App
from ensue.cli.options import AppOption, JsonOption
from ensue.cli.output import (
    BAD,
    DIM,
    GOOD,
    WARN,
    Cell,
    ago,
    coloured_json,
    count,
    event_as_json,
    line,
    moment,
    parse_moment,
    pretty,
    print_json,
    put,
    put_facts,
    say,
    styled,
    table,
    when,
)
from ensue.cli.target import Target, find_log
from ensue.errors import AggregateNotFound, UnknownName
from ensue.events import Recorded
from ensue.history import State
from ensue.subscriptions.inspecting import Passage


def add_to(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command(short_help="Show one event, or an aggregate as it was.")(show)


def show(
    id: Annotated[
        str, typer.Argument(metavar="ID", help="An event's id or position, or an aggregate's stream: wallet-7.")
    ],
    as_of: Annotated[
        str | None,
        typer.Option("--as-of", metavar="TIME", help="The aggregate as it was at a moment (UTC), or 2h, 3d ago."),
    ] = None,
    at_version: Annotated[
        int | None, typer.Option("--at-version", min=1, metavar="N", help="The aggregate as it was at a version.")
    ] = None,
    app: AppOption = None,
    json: JsonOption = False,
) -> None:
    """Show one event: its contents, what is known about it, and how far every subscription is with it.

    Or show the state of an aggregate that the application declares: as it is, as it was at a moment, or at a version.
    """
    target = find_log(app)
    if as_of is not None or at_version is not None or _names_stream(target.app, id):
        _show_state(target, _state_of(target.app, id, at_version, as_of), json=json)
        return
    operations = target.app.operations
    recorded = event_named(target.app, id)
    passages = operations.passages(recorded)
    decisions = operations.audit(event_id=recorded.id_text)
    if json:
        print_json(
            {**event_as_json(recorded), "subscriptions": passages, "decisions": [_entry(each) for each in decisions]}
        )
        return
    _show_envelope(recorded)
    say()
    say(coloured_json(pretty(recorded.shown)))
    say()
    _show_passages(target, recorded, passages)
    for each in decisions:
        because = f": {each.reason}" if each.reason else ""
        at = moment(datetime.fromisoformat(each.at))
        say(f"{at}  {each.actor} said {each.action} for {each.subscription}{because}")


def _entry(entry: Any) -> dict[str, Any]:
    return {field: getattr(entry, field) for field in ("at", "actor", "action", "subscription", "reason")}


def _names_stream(app: App, id: str) -> bool:
    name, dash, _ = id.partition("-")
    return bool(dash) and name in app.declarations.aggregates()


def _state_of(app: App, stream: str, at_version: int | None, as_of: str | None) -> State:
    then = None if as_of is None else parse_moment(as_of)
    try:
        return app.history.state(stream, at_version=at_version, as_of=then)
    except AggregateNotFound:
        if then is None:
            raise
        raise UnknownName(f"stream {stream!r} had no events at {moment(then)}") from None


def _show_state(target: Target, found: State, *, json: bool) -> None:
    if json:
        print_json(found)
        return
    put_facts(
        {
            "stream": found.stream,
            "version": str(found.version),
            "since": f"{moment(found.recorded_at)}, {ago(found.recorded_at)} ago",
            "position": str(found.position),
        }
    )
    say()
    say(coloured_json(msgspec.json.format(msgspec.json.encode(found.state), indent=2).decode()))
    say()
    say(f"The event that led to it: {target.command('show', str(found.position))}", DIM)


def event_named(app: App, id: str) -> Recorded[Any]:
    """Return the event of an id or a position; raise `UnknownName` if there is none."""
    if id.isdecimal():
        found = list(app.read(after=int(id) - 1, until=int(id)))
    else:
        try:
            found = list(app.read(id=str(UUID(id))))
        except ValueError:
            raise UnknownName(
                f"{id!r} is neither an event's id (a UUID) nor a position (a number), nor the stream of an aggregate "
                "that is declared with app.repository(…)"
            ) from None
    if not found:
        raise UnknownName(
            f"the log of {app.name!r} has no event {id}, or the transaction that recorded it is still open; "
            "`ensue tail` shows the latest"
        )
    return found[0]


def _show_envelope(recorded: Recorded[Any]) -> None:
    about = recorded.metadata
    stream = None if recorded.stream is None else f"{recorded.stream}, version {recorded.version}"
    put_facts(
        {
            "position": str(recorded.position),
            "id": recorded.id_text,
            "type": recorded.type,
            "kind": recorded.kind_text,
            "recorded": f"{moment(recorded.recorded_at)}, {ago(recorded.recorded_at)} ago",
            "key": None if recorded.key == recorded.id_text else recorded.key,
            "stream": stream,
            "correlation": recorded.correlation_id,
            "causation": recorded.causation_id,
            "actor": about.actor,
            "traceparent": about.traceparent,
            **{f"header {name}": value for name, value in about.headers.items()},
        }
    )


def _show_passages(target: Target, recorded: Recorded[Any], passages: list[Passage]) -> None:
    if not passages:
        say(f"No subscription wants {recorded.type}.")
        return
    rows: list[list[Cell]] = [[each.subscription, _state(each), _why(each, recorded)] for each in passages]
    put(table(["subscription", "state", "~"], rows))
    if any(each.state == "parked" and each.next_step == "wait" for each in passages):
        say(f"What to do with it: {target.command('dead', 'show', str(recorded.position))}", DIM)


def _state(passage: Passage) -> Text:
    if passage.known is not None and passage.known.given_up:
        return styled("given up", WARN)
    style = {"passed": GOOD, "parked": BAD, "queued": WARN}.get(passage.state, "")
    return styled(passage.state, style)


def _why(passage: Passage, recorded: Recorded[Any]) -> str:
    paused = "; the subscription is paused" if passage.paused else ""
    match passage.state:
        case "parked":
            due = f"{passage.next_step} due {moment(passage.due_at)}" if passage.due_at else "waits for a person"
            last = f", the last {ago(passage.failed_at)} ago in {passage.worker}" if passage.failed_at else ""
            return f"{due}; {count(passage.attempt or 0, 'attempt')}{last}: {line(passage.reason or '')}{paused}"
        case "queued":
            return f"behind {passage.parked_position}, which is parked: {line(passage.reason or '')}{paused}"
        case "waiting":
            return f"done up to {passage.checkpoint}{paused}"
        case "earlier":
            return "recorded before the subscription began"
        case _:
            return when(passage.known, recorded.recorded_at) if passage.known is not None else ""
