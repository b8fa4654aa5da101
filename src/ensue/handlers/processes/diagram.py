"""A process as it is drawn: its steps, what moves them, and what they lead to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ensue.drawing import Map, MapEvent, Part
from ensue.events import Command, Event
from ensue.handlers.processes.process import Process
from ensue.handlers.processes.tracing import Traced, trace


def diagram(cls: type[Process]) -> Map:
    """Draw a process up from its source, without a database; see `tracing` for what is found."""
    steps = trace(cls)
    undoes = tuple(dict.fromkeys(each for step in reversed(steps) for each in reversed(step.undoes)))
    parts = tuple(_part(number, step, undoes) for number, step in enumerate(steps, 1))
    notes = dict[type[Event], str]()
    for event in undoes:
        notes[event] = "compensation"
    for step in steps:
        notes.update((event, f"timer: after {when}") for when, event in step.timers)
    events = dict.fromkeys(
        each
        for step in steps
        for each in (*step.takes, *step.records, *(event for _, event in step.timers), *step.undoes)
    )
    return Map(
        app=f"{cls.__process__}, version {cls.__version__}",
        modules=(),
        events=tuple(
            MapEvent(type=each.__type__, kind=each.__kind__, module=None, note=notes.get(each) or _kind(each))
            for each in events
        ),
        parts=parts,
    )


def _part(number: int, step: Traced, undoes: Iterable[type[Event]]) -> Part:
    name = step.step.function.__name__
    emits = (*step.records, *(event for _, event in step.timers), *(undoes if step.compensates else ()))
    return Part(
        name=f"step {number}" if name.startswith("_") else name,
        how="step",
        module=None,
        takes=tuple(each.__type__ for each in step.takes),
        emits=tuple(dict.fromkeys(each.__type__ for each in emits)),
        note=", ".join(_does(step)),
    )


def _does(step: Traced) -> Iterator[str]:
    yield step.step.how
    if step.compensates:
        yield "compensates"
    if step.ends:
        yield f"ends: {' or '.join(dict.fromkeys(step.ends))}"


def _kind(event: type[Event]) -> str | None:
    return "command" if issubclass(event, Command) else None
