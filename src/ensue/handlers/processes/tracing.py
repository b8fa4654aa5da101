"""What a step may do, read from its source: for the diagram, the map, and the check of commands.

Only what is written out is found, as in `self.send(AddToNewsletter(…))`: a message that a variable holds is not.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ensue.events import Event
from ensue.events.methods import Marked, is_event_class
from ensue.handlers.processes.process import Process

_WORDS = frozenset(("send", "record", "after", "cancel", "undo", "compensate", "end"))


@dataclass(frozen=True, slots=True)
class Traced:
    """What one method does."""

    step: Marked
    takes: tuple[type[Event], ...]
    records: tuple[type[Event], ...]
    """What it sends and records."""
    timers: tuple[tuple[str, type[Event]], ...]
    """After how long, as it is written, and which event."""
    undoes: tuple[type[Event], ...]
    compensates: bool
    ends: tuple[str, ...]
    """The outcomes."""


def trace(cls: type[Process]) -> tuple[Traced, ...]:
    """Return what the steps of a process may do, in the order of their declaration."""
    grouped: dict[int, list[type[Event]]] = {}
    steps: dict[int, Marked] = {}
    for event, step in cls.__steps__.items():
        grouped.setdefault(id(step), []).append(event)
        steps[id(step)] = step
    return tuple(_trace(steps[each], tuple(events)) for each, events in grouped.items())


def recorded_by(cls: type[Process]) -> tuple[type[Event], ...]:
    """Return everything that a process may record, at once, later or in compensation."""
    return tuple(
        dict.fromkeys(
            event
            for each in trace(cls)
            for event in (*each.records, *(timed for _, timed in each.timers), *each.undoes)
        )
    )


def _trace(step: Marked, takes: tuple[type[Event], ...]) -> Traced:
    names = _names(step)
    calls = list(_calls(step))
    timers: list[tuple[str, type[Event]]] = []
    for word, call in calls:
        if word == "after":
            when = _shown(call.args[0]) if call.args else ""
            timers += [(when, event) for event in _events(call, names)]
    return Traced(
        step=step,
        takes=takes,
        records=_of(calls, names, "send", "record"),
        timers=tuple(timers),
        undoes=_of(calls, names, "undo"),
        compensates=any(word == "compensate" for word, _ in calls),
        ends=tuple(_outcome(call) for word, call in calls if word == "end"),
    )


def _calls(step: Marked) -> Iterator[tuple[str, ast.Call]]:
    """Yield what a method calls on its first parameter, in the order in which it is written."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(step.function)))
    except (OSError, TypeError, SyntaxError):  # typed in, or made by a program
        return
    (method,) = tree.body
    if not isinstance(method, ast.FunctionDef) or not method.args.args:
        return
    me = method.args.args[0].arg
    found = [
        node
        for node in ast.walk(method)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == me
    ]
    for node in sorted(found, key=lambda each: (each.lineno, each.col_offset)):
        if isinstance(node.func, ast.Attribute) and node.func.attr in _WORDS:
            yield node.func.attr, node


def _names(step: Marked) -> Mapping[str, Any]:
    closure = inspect.getclosurevars(step.function)
    return {**step.around, **closure.globals, **closure.nonlocals}


def _of(calls: list[tuple[str, ast.Call]], names: Mapping[str, Any], *words: str) -> tuple[type[Event], ...]:
    return tuple(dict.fromkeys(event for word, call in calls if word in words for event in _events(call, names)))


def _events(call: ast.Call, names: Mapping[str, Any]) -> Iterator[type[Event]]:
    """Yield the classes of the events that are made among the arguments of a call."""
    for argument in (*call.args, *(each.value for each in call.keywords)):
        for node in ast.walk(argument):
            if isinstance(node, ast.Call):
                found = _resolve(node.func, names)
                if is_event_class(found):
                    yield found


def _resolve(node: ast.expr, names: Mapping[str, Any]) -> Any:
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute):
        return getattr(_resolve(node.value, names), node.attr, None)
    return None


def _shown(node: ast.expr) -> str:
    return str(node.value) if isinstance(node, ast.Constant) else ast.unparse(node)


def _outcome(call: ast.Call) -> str:
    given = call.args[0] if call.args else next((each.value for each in call.keywords), None)
    return "done" if given is None else _shown(given)
