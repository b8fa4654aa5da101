"""Pages: Jinja templates in which everything is escaped, and the words they use."""

from __future__ import annotations

import base64
import difflib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any
from urllib.parse import quote

import jinja2
import msgspec
from markupsafe import Markup

from ensue.app.telling import ago, count, line, moment, pretty, span, until, when
from ensue.console.visits import Visit
from ensue.drawing import stylesheet

FLASH = "ensue_flash"
HIDDEN = "hidden: your role may not see what events hold"


@cache
def environment() -> jinja2.Environment:
    """Return the templates; everything in them is escaped."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("ensue.console"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Any] = {
        "ago": ago,
        "at": stamp,
        "day": moment,
        "json": pretty,
        "line": line,
        "number": number,
        "path": path,
        "plain": plain,
        "rate": rate,
        "shown": shown,
        "short": short,
        "span": span,
        "until": until,
        "when": when,
    }
    made.filters.update(filters)
    words: dict[str, Any] = {"count": count, "hidden": HIDDEN, "asset": asset}
    made.globals.update(words)
    return made


def page(visit: Visit, template: str, values: dict[str, Any]) -> str:
    """Return a page."""
    return (
        environment()
        .get_template(template)
        .render(visit=visit, root=visit.root, visitor=visit.visitor, app=visit.app, flash=flash(visit), **values)
    )


@cache
def version() -> str:
    """Return what the names of assets carry, so that a newer release is not mixed with what browsers keep."""
    from importlib.metadata import version as installed

    return installed("ensue")


def asset(visit: Visit, name: str) -> str:
    """Return the address of a file that pages need."""
    return f"{visit.root}/static/{name}?{version()}"


@cache
def assets() -> Mapping[str, bytes]:
    """Return the files that pages need, by name. No other name is looked for, nor kept."""
    return {"drawings.css": stylesheet().encode(), **dict(_files(files("ensue.console").joinpath("static"), ""))}


def _files(folder: Traversable, above: str) -> Iterator[tuple[str, bytes]]:
    for each in folder.iterdir():
        if each.is_dir():
            yield from _files(each, f"{above}{each.name}/")
        else:
            yield f"{above}{each.name}", each.read_bytes()


# --- what is said once, on the page that comes next


def packed(told: str, *, wrong: bool) -> str:
    """Return a message as a cookie."""
    return base64.urlsafe_b64encode(msgspec.json.encode([told[:600], wrong])).decode()


def flash(visit: Visit) -> tuple[str, bool] | None:
    """Return the message that an action has left for this page."""
    cookie = visit.request.cookies.get(FLASH)
    if not cookie:
        return None
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(cookie), type=tuple[str, bool])
    except (ValueError, msgspec.MsgspecError):
        return None


# --- words


def stamp(at: datetime) -> Markup:
    """Return a moment with its age, for people and for programs."""
    return Markup('<time datetime="{}" title="{}">{} ago</time>').format(
        at.astimezone(UTC).isoformat(), moment(at), ago(at)
    )


def rate(value: float | None) -> str:
    """Return how many in a second."""
    if value is None:
        return "…"
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def number(value: float) -> str:
    """Return a number with commas."""
    return f"{value:,}"


def path(text: object) -> str:
    """Return a part of a path."""
    return quote(str(text), safe="")


def short(text: object) -> str:
    """Return the end of an id."""
    return str(text)[-12:]


def shown(text: object) -> str:
    """Return text in which what is invisible can be seen."""
    return "".join(each if each.isprintable() or each in "\n\t" else f"\\u{ord(each):04x}" for each in str(text))


def plain(value: Any) -> str:
    """Return a value of a state as people write it."""
    if value is None or isinstance(value, str):
        return value or ""
    return msgspec.json.encode(value).decode()


def difference(old: str, new: str) -> list[tuple[str, str]]:
    """Return the lines of two JSON texts with what became of each: `same`, `gone` or `new`."""
    return list(_compared(pretty(old).splitlines(), pretty(new).splitlines()))


def _compared(old: list[str], new: list[str]) -> Iterator[tuple[str, str]]:
    signs = {" ": "same", "-": "gone", "+": "new"}
    for each in difflib.ndiff(old, new):
        if each[0] in signs:
            yield signs[each[0]], each[2:]
