"""The command that looks at one event: show."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.text import Text

from ensue.app import App
from ensue.cli.options import AppOption, JsonOption
from ensue.cli.output import (
    BAD,
    DIM,
    GOOD,
    WARN,
    ago,
    coloured_json,
    count,
    event_as_json,
    line,
    moment,
    pretty,
    print_json,
    put,
    put_facts,
    say,
    styled,
    table,
)
from ensue.cli.target import Target, find_log
from ensue.errors import UnknownName
from ensue.events import Recorded
from ensue.subscriptions.inspecting import Passage


def add_to(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command(short_help="Show one event and who has passed it.")(show)


def show(
    id: Annotated[str, typer.Argument(metavar="ID", help="The event's id, or its position.")],
    app: AppOption = None,
    json: JsonOption = False,
) -> None:
    """Show one event: its contents, what is known about it, and how far every subscription is with it."""
    target = find_log(app)
    operations = target.app.operations
    recorded = _event(target.app, id)
    passages = operations.passages(recorded)
    decisions = operations.audit(event_id=recorded.id_text)
    if json:
        print_json(
            {**event_as_json(recorded), "subscriptions": passages, "decisions": [_entry(each) for each in decisions]}
        )
        return
    _show_envelope(recorded)
    say()
    say(coloured_json(pretty(recorded.data)))
    say()
    _show_passages(target, recorded, passages)
    for each in decisions:
        because = f": {each.reason}" if each.reason else ""
        at = moment(datetime.fromisoformat(each.at))
        say(f"{at}  {each.actor} said {each.action} for {each.subscription}{because}")


def _entry(entry: Any) -> dict[str, Any]:
    return {field: getattr(entry, field) for field in ("at", "actor", "action", "subscription", "reason")}


def _event(app: App, id: str) -> Recorded[Any]:
    if id.isdecimal():
        found = list(app.read(after=int(id) - 1, until=int(id)))
    else:
        try:
            found = list(app.read(id=str(UUID(id))))
        except ValueError:
            raise UnknownName(f"{id!r} is neither an event's id (a UUID) nor a position (a number)") from None
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
    put(table(["subscription", "state", "~"], [[each.subscription, _state(each), _why(each)] for each in passages]))
    if any(each.state == "parked" and each.next_step == "wait" for each in passages):
        say(f"What to do with it: {target.command('dead', 'show', str(recorded.position))}", DIM)


def _state(passage: Passage) -> Text:
    style = {"passed": GOOD, "parked": BAD, "queued": WARN}.get(passage.state, "")
    return styled(passage.state, style)


def _why(passage: Passage) -> str:
    paused = "; the subscription is paused" if passage.paused else ""
    match passage.state:
        case "parked":
            due = f"{passage.next_step} due {moment(passage.due_at)}" if passage.due_at else "waits for a person"
            return f"{due}; {count(passage.attempt or 0, 'attempt')}: {line(passage.reason or '')}{paused}"
        case "queued":
            return f"behind {passage.parked_position}, which is parked: {line(passage.reason or '')}{paused}"
        case "waiting":
            return f"done up to {passage.checkpoint}{paused}"
        case "earlier":
            return "recorded before the subscription began"
        case _:
            return ""
