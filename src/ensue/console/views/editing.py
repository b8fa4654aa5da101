"""Editing a dead letter: the difference is shown before anything is sent."""

from __future__ import annotations

import msgspec

from ensue.app.telling import pretty
from ensue.console.acting import compact
from ensue.console.rendering import difference
from ensue.console.views.dead import letter_named
from ensue.console.visits import Page, Visit
from ensue.events import decode


def edit(visit: Visit) -> Page:
    """Show the contents to be changed; once they are, the difference, and what would be sent."""
    visit.need_payloads()
    letter = letter_named(visit)
    old = letter.data or "{}"
    given = visit.form.get("data")
    new, wrong, lines = pretty(old), "", []
    if given is not None:
        new = given
        try:
            new = pretty(compact(given))
            wrong = _fault(letter.type, new)
            lines = [] if wrong else difference(old, new)
        except msgspec.ValidationError as error:
            wrong = str(error)
    return Page(
        "edit_part.html" if visit.partial else "edit.html",
        {
            "title": f"Edit {letter.type} {letter.position:,}",
            "letter": letter,
            "data": new,
            "wrong": wrong,
            "lines": lines,
            "changed": any(what != "same" for what, _ in lines),
            "reason": visit.form.get("reason", ""),
        },
    )


def _fault(type: str, data: str) -> str:
    """Say why the class of an event does not take contents; nothing if it does."""
    try:
        decode(type, data)
    except Exception as error:  # noqa: BLE001 whatever the class raises is shown
        return f"{type} does not take these contents: {error}"
    return ""
