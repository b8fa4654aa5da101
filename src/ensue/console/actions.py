"""Actions: what a visitor can do, each declared once for forms and for JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from ensue.console import acting, building
from ensue.console.access import Role
from ensue.console.acting import Given, Outcome
from ensue.console.visits import Visit


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """Something that a visitor can do."""

    name: str
    role: Role
    takes: type[Given]
    do: Callable[[Any, Visit], Outcome]
    about: str
    """A sentence, for the API's document."""


def _action(name: str, role: Role, takes: type[Given], do: Callable[[Any, Visit], Outcome]) -> Action:
    return Action(name=name, role=role, takes=takes, do=do, about=(do.__doc__ or "").strip())


ACTIONS: Mapping[str, Action] = {
    each.name: each
    for each in (
        _action("pause", "operate", acting.Pause, acting.pause),
        _action("resume", "operate", acting.Resume, acting.resume),
        _action("retire", "administer", acting.Retire, acting.retire),
        _action("repartition", "administer", acting.Repartition, acting.repartition),
        _action("retry", "operate", acting.Retry, acting.retry),
        _action("skip", "operate", acting.Skip, acting.skip),
        _action("discard", "administer", acting.Discard, acting.discard),
        _action("edit", "operate", acting.Edit, acting.edit),
        _action("replay", "operate", building.Replay, building.replay),
        _action("compare", "operate", building.Compare, building.compare),
        _action("switch", "administer", building.Switch, building.switch),
        _action("drop-build", "administer", building.DropBuild, building.drop_build),
        _action("cancel-process", "administer", acting.CancelProcess, acting.cancel_process),
        _action("fire-timer", "operate", acting.FireTimer, acting.fire_timer),
        _action("cancel-timer", "administer", acting.CancelTimer, acting.cancel_timer),
    )
}


def carry_out(action: Action, given: Given, visit: Visit) -> Outcome:
    """Carry an action out, if the visitor may; everybody's next look is a new one."""
    visit.need(action.role)
    outcome = action.do(given, visit)
    visit.pulse.forget()
    return outcome


def from_form(action: Action, form: Mapping[str, str]) -> Given:
    """Return what an action takes, from the fields of a form; empty ones count as absent.

    Raises `msgspec.ValidationError`.
    """
    filled: dict[str, object] = {name: value for name, value in form.items() if value != ""}
    if isinstance(letters := filled.get("letters"), str):
        filled["letters"] = letters.split("\n")
    return msgspec.convert(filled, action.takes, strict=False)
