"""The search field on top: it takes an id, a position, a stream or a key, and finds out which it is."""

from __future__ import annotations

from urllib.parse import quote, urlencode
from uuid import UUID

from ensue.console.visits import Redirect, Visit


def find(visit: Visit) -> Redirect:
    """Go to what is meant."""
    text = visit.asked("q")
    if not text:
        return Redirect("/events")
    if text.isascii() and text.isdecimal():
        return Redirect(f"/events/{text}")
    try:
        return Redirect(f"/events/{UUID(text)}")
    except ValueError:
        pass
    name, dash, id = text.partition("-")
    if dash and id and name in visit.app.declarations.aggregates():
        return Redirect(f"/aggregates/{quote(text, safe='')}")
    if text in visit.app.subscriptions:
        return Redirect(f"/subscriptions/{quote(text, safe='')}")
    if text in visit.app.operations.stored_types():
        return Redirect(f"/events?{urlencode({'type': text})}")
    return Redirect(f"/events?{urlencode({'key': text})}")
