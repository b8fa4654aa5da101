"""Commands about processes: process list, show, cancel, diagram."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import msgspec
import typer

from ensue.cli.mapping import FormatOption, MapFormat, OutputOption, write_down
from ensue.cli.options import ActorOption, AppOption, JsonOption, ReasonOption, YesOption
from ensue.cli.output import (
    BAD,
    DIM,
    GOOD,
    WARN,
    ago,
    coloured_json,
    confirm,
    count,
    moment,
    os_user,
    pretty,
    print_json,
    put,
    put_facts,
    raw,
    say,
    styled,
    table,
)
from ensue.cli.target import find, find_log
from ensue.errors import UnknownName
from ensue.handlers.processes import ProcessSeen, ProcessShown, StepSeen

process = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The process.", show_default=False)]
Key = Annotated[str, typer.Argument(metavar="KEY", help="What it is about.", show_default=False)]


class Status(StrEnum):
    """Where a process can stand."""

    RUNNING = "running"
    COMPENSATING = "compensating"
    DONE = "done"
    COMPENSATED = "compensated"
    CANCELLED = "cancelled"


_STYLES = {"compensating": WARN, "done": GOOD, "compensated": BAD, "cancelled": DIM}


@process.callback()
def about() -> None:
    """Look at processes, cancel one, draw one.

    A process remembers where something stands that takes several steps: one for each key, moved by events and timers.
    """


@process.command("list", short_help="List processes.")
def list_(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Only of this name.", show_default=False)] = None,
    key: Annotated[str | None, typer.Option("--key", metavar="KEY", help="Only of this key.")] = None,
    status: Annotated[Status | None, typer.Option("--status", help="Only of this status.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="So many at most.")] = 100,
    app: AppOption = None,
    json: JsonOption = False,
) -> None:
    """List processes, those that moved last first."""
    target = find_log(app)
    found = target.app.processes.list(name, key=key, status=status, limit=limit)
    if json:
        print_json([_as_json(each) for each in found])
    elif found:
        rows = [
            (
                each.process,
                each.key,
                f"v{each.version}",
                styled(each.status, _STYLES.get(each.status, "")),
                each.steps,
                f"{ago(each.moved_at)} ago",
                "" if each.outcome in (None, each.status) else each.outcome,
            )
            for each in found
        ]
        put(table(("process", "key", "version", "status", ">steps", "moved", "~outcome"), rows))
        if len(found) == limit:
            say(f"There may be more: these are the {limit} that moved last.", DIM)
    else:
        say("There are none." if (name, key, status) == (None, None, None) else "Nothing matches.")


@process.command(short_help="Show everything about one.")
def show(name: Name, key: Key, app: AppOption = None, json: JsonOption = False) -> None:
    """Show a process: its state, what has moved it and what each step did, the timers that it waits for."""
    target = find_log(app)
    found = target.app.processes.show(name, key)
    if json:
        print_json(
            {
                **_as_json(found.process),
                "history": [{**msgspec.structs.asdict(each), "did": raw(each.did)} for each in found.steps],
                "timers": found.timers,
            }
        )
        return
    _show(found)
    if found.process.status in ("running", "compensating"):
        say()
        say("what you can do", DIM)
        rest = "end it here" if found.process.status == "running" else "give up what is still to be undone"
        if found.process.status == "compensating":
            say(f"  {target.command('dead', 'list')}   (what its handler could not do waits there for you)")
        say(f"  {target.command('process', 'cancel', name, key)}   ({rest})")
        if found.process.undo and found.process.status == "running":
            say(f"  {target.command('process', 'cancel', name, key, '--compensate')}   (and undo what it has done)")


def _show(found: ProcessShown) -> None:
    seen = found.process
    put_facts(
        {
            "process": f"{seen.process}, version {seen.version}",
            "key": seen.key,
            "status": styled(seen.status, _STYLES.get(seen.status, "")),
            "outcome": seen.outcome,
            "started": f"{moment(seen.started_at)}, {ago(seen.started_at)} ago",
            "moved": f"{moment(seen.moved_at)}, {ago(seen.moved_at)} ago",
            "to be undone": _undone(seen),
        }
    )
    say()
    say("its state", DIM)
    say(coloured_json(pretty(seen.state)))
    say()
    say("its steps", DIM)
    put(table((">", "at", "moved by", "event", "~and then"), [_step(each) for each in found.steps]))
    if found.timers:
        say()
        say("its timers", DIM)
        put(table(("name", "due at", "event"), [(each.name, moment(each.due_at), each.type) for each in found.timers]))


def _undone(seen: ProcessSeen) -> str | None:
    if seen.status == "compensating":
        first, *rest = seen.undo
        return ", then ".join((f"{first} (is with its handler)", *rest))
    return ", ".join(seen.undo) if seen.undo and seen.status == "running" else None


def _step(step: StepSeen) -> tuple[str | int, ...]:
    return (step.number, moment(step.at), step.type, step.event_id, "; ".join(_words(step)))


def _words(step: StepSeen) -> list[str]:
    did: dict[str, Any] = msgspec.json.decode(step.did)
    words = [
        f"{word} {', '.join(did[name])}"
        for name, word in (("recorded", "recorded"), ("timers", "set"), ("cancelled", "cancelled"))
        if did.get(name)
    ]
    if did.get("compensated"):
        words.append("compensated")
    return [*words, *([f"ended: {did['ended']}"] if did.get("ended") else [])]


@process.command(short_help="End a running process.")
def cancel(
    name: Name,
    key: Key,
    compensate: Annotated[
        bool, typer.Option("--compensate", help="Also undo its steps, the last first, one after the other.")
    ] = False,
    app: AppOption = None,
    reason: ReasonOption = "",
    actor: ActorOption = None,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """End a running process where it stands: its timers go, and no event moves it any more. It asks first.

    With --compensate, what undoes its steps is recorded, the last first: each command when the one before it is done.
    Without it, a process that is compensating gives up what is still to be undone.
    """
    target = find_log(app)
    seen = target.app.processes.show(name, key).process
    if seen.status not in ("running", "compensating"):
        raise UnknownName(f"process {name!r} of {key!r} is {seen.status} already: there is nothing to cancel")
    what = f", and record {', then '.join(seen.undo) or 'nothing: it has nothing to undo'}" if compensate else ""
    confirm(f"Cancel {name} of {key} after {count(seen.steps, 'step')}{what}?", yes=yes)
    recorded = target.app.processes.cancel(name, key, actor=actor or os_user(), reason=reason, compensate=compensate)
    if json:
        print_json({"process": name, "key": key, "recorded": recorded})
        return
    say(f"{name} of {key} is cancelled{'; undone by ' + ', then '.join(recorded) if recorded else ''}")


@process.command(short_help="Draw a process.")
def diagram(
    name: Name,
    version: Annotated[int | None, typer.Option("--version", help="Default: the newest one.")] = None,
    app: AppOption = None,
    format: FormatOption = MapFormat.MERMAID,
    output: OutputOption = None,
) -> None:
    """Draw a process from its declaration: its steps, what moves them, and what they lead to. It needs no database."""
    write_down(find(app).app.processes.diagram(name, version), format, output)


def _as_json(seen: ProcessSeen) -> dict[str, Any]:
    return {**msgspec.structs.asdict(seen), "state": raw(seen.state)}
