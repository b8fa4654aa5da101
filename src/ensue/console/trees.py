"""The tree of what caused what, as a drawing: time goes to the right, causes stand above what they led to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from math import log1p

from markupsafe import Markup

from ensue.app.telling import moment, span
from ensue.history import Trace, Traced
from ensue.subscriptions.inspecting import Passage

_ROW, _INDENT, _WIDTH, _TIME = 34, 22, 1040, 300
_TEXT = _WIDTH - _TIME - 90
"""Where the names end and the times begin."""


@dataclass(frozen=True, slots=True)
class Tree:
    """A drawing, and how long it spans."""

    svg: Markup
    lasts: str
    """From the first event to the last."""


def draw(trace: Trace, root: str) -> Tree:
    """Draw a trace."""
    rows = {each.id: number for number, each in enumerate(trace.events)}
    longest = max((each.seconds or 0.0 for each in trace.events), default=0.0)
    height = _ROW * len(trace.events) + 6
    size = f'width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}"'
    label = 'role="group" aria-label="Causes and consequences"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="ensue-tree" {size} {label}>',
        *(_line(each, rows) for each in trace.events if each.cause in rows),
        *(part for each in trace.events for part in _event(each, rows[each.id], trace, longest, root)),
        "</svg>",
    ]
    return Tree(Markup("\n".join(parts)), _since(longest))  # noqa: S704 each text in it is escaped


def _line(each: Traced, rows: dict[str, int]) -> str:
    above, row = rows[each.cause or ""], rows[each.id]
    x = 16 + (each.depth - 1) * _INDENT
    y1, y2 = above * _ROW + 27, row * _ROW + 19
    return f'<path class="cause" d="M{x} {y1}V{y2 - 6}q0 6 6 6h{_INDENT - 14}"/>'


def _event(each: Traced, row: int, trace: Trace, longest: float, root: str) -> Iterator[str]:
    x, y = 16 + each.depth * _INDENT, row * _ROW + 19
    here = " here" if each.id == trace.id else ""
    kind = each.kind or "unknown"
    yield f'<g class="{kind}{here}"><title>{_text(_told(each))}</title>'
    if here:
        yield f'<rect class="here" x="2" y="{row * _ROW + 3}" width="{_WIDTH - 4}" height="{_ROW - 3}" rx="6"/>'
    yield f'<circle class="dot" cx="{x}" cy="{y}" r="6"/>'
    name = each.type or f"{each.id}, in no log that was looked at"
    place = f'<tspan class="note" dx="8">{_text(_cut(_place(each), 42))}</tspan>'
    text = f'<text x="{x + 14}" y="{y + 5}"><tspan class="name">{_text(_cut(name, 44))}</tspan>{place}</text>'
    if each.position is not None and each.service == trace.event.service:
        text = f'<a href="{escape(root)}/events/{each.position}">{text}</a>'
    yield text
    yield from _outcome(each, y)
    if each.seconds is not None:
        at = _WIDTH - _TIME + (_TIME - 100) * _share(each.seconds, longest)
        yield f'<path class="track" d="M{_WIDTH - _TIME} {y}H{_WIDTH - 100}"/>'
        yield f'<circle class="moment" cx="{at:.1f}" cy="{y}" r="4"/>'
        yield f'<text class="note end" x="{_WIDTH - 10}" y="{y + 4}">+{_since(each.seconds)}</text>'
    yield "</g>"


def _outcome(each: Traced, y: int) -> Iterator[str]:
    """Say in a word how far the subscriptions are with it."""
    if not each.subscriptions:
        return
    passed = sum(one.state == "passed" for one in each.subscriptions)
    wrong = any(one.state in ("parked", "queued") for one in each.subscriptions)
    style = "wrong" if wrong else "well" if passed == len(each.subscriptions) else "note"
    word = "parked" if wrong else f"{passed} of {len(each.subscriptions)} handled"
    yield f'<text class="{style} end" x="{_TEXT + 70}" y="{y + 4}">{word}</text>'


def _share(seconds: float, longest: float) -> float:
    """Spread times so that milliseconds are seen beside hours."""
    return log1p(seconds * 1000) / log1p(longest * 1000) if longest else 0.0


def _place(each: Traced) -> str:
    if each.position is None:
        return ""
    where = f"{each.stream}@{each.version}" if each.version is not None else each.key or ""
    return f"{where}  {each.service} {each.position:,}"


def _told(each: Traced) -> str:
    return f"{each.type or each.id} {_place(each)} {', '.join(_state(one) for one in each.subscriptions)}"


def _state(one: Passage) -> str:
    return f"{one.subscription}: {one.state}" + (f" by {moment(one.known.by)}" if one.known is not None else "")


def _since(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else span(seconds)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _text(text: str) -> str:
    return escape("".join(each if each.isprintable() else "�" for each in text))
