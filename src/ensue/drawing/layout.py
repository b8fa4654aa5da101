"""Where things stand on a drawn map.

Columns from left to right: who emits, what, who takes it, and so on after each translation; a band for each module. An
arrow over several columns bends through each of them, so that it passes between the boxes. Order within a column is by
the mean of the neighbours, several times over, as in Sugiyama's method (https://doi.org/10.1109/TSMC.1981.4308636).
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from ensue.drawing.model import Map, MapEvent, Part

LETTER = 7.9
"""How wide a letter of a name is; the font's letters all are."""
SMALL = 6.4
"""How wide a letter of a note is, about."""
LONGEST = 40
"""How many letters of a name or a note are shown."""
_PADDING, _HEIGHT, _NARROWEST = 18.0, 46.0, 150.0
_GAP, _BEND = 16.0, 8.0
"""Between boxes of a column, and how high the bend of an arrow is."""
_BETWEEN, _EACH, _WIDEST = 60.0, 7.0, 150.0
"""Between columns: at least, for each arrow more, and at most."""
_MARGIN, _INSIDE, _TITLE = 18.0, 20.0, 34.0
"""Around all, inside a band, and above its boxes."""
_SWEEPS = 12


@dataclass(eq=False, slots=True)
class Spot:
    """A box, or the bend of a long arrow; `y` is its middle."""

    what: MapEvent | Part | None
    column: int
    band: int
    height: float
    width: float = 0.0
    x: float = 0.0
    y: float = 0.0
    left: list[Spot] = field(default_factory=list["Spot"])
    """Where its arrows come from."""
    right: list[Spot] = field(default_factory=list["Spot"])
    """Where they go."""


@dataclass(frozen=True, slots=True)
class Line:
    """A piece of an arrow, from one column to the next one."""

    start: Spot
    end: Spot
    crosses: bool


@dataclass(frozen=True, slots=True)
class Band:
    """The frame of a module."""

    title: str
    module: str | None
    top: float
    height: float


@dataclass(frozen=True, slots=True)
class Layout:
    """A map whose boxes have places."""

    boxes: list[Spot]
    lines: list[Line]
    bands: list[Band]
    width: float
    height: float


def lay_out(map: Map) -> Layout:
    """Give everything on a map its place."""
    modules = _modules(map)
    boxes = _boxes(map, modules)
    lines, bends = _lines(map, boxes)
    for line in lines:
        line.start.right.append(line.end)
        line.end.left.append(line.start)
    spots = [*boxes.values(), *bends]
    stacks = _stacks(spots)
    _order(stacks)
    width = _set_columns(spots, lines)
    bands = _set_bands(map, modules, stacks)
    _settle(stacks, bands)
    height = bands[-1].top + bands[-1].height + _MARGIN if bands else 2 * _MARGIN
    return Layout(list(boxes.values()), lines, bands, width, height)


def shown(name: str) -> str:
    """Return as much of a name or a note as is shown."""
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"


# --- what there is

_Key = tuple[str, int | str]


def _modules(map: Map) -> list[str | None]:
    """Return the modules that have something to show, what is in no module at the end."""
    inhabited = {part.module for part in map.parts} | {event.module for event in map.events}
    return [module for module in (*map.modules, None) if module in inhabited]


def _boxes(map: Map, modules: list[str | None]) -> dict[_Key, Spot]:
    columns = _columns(map)

    def box(key: _Key, what: MapEvent | Part, name: str) -> Spot:
        written = max(_letters(shown(name)) * LETTER, _letters(shown(what.note or "")) * SMALL)
        width = max(written + 2 * _PADDING, _NARROWEST)
        return Spot(what, columns[key], modules.index(what.module), _HEIGHT, width)

    boxes: dict[_Key, Spot] = {}
    for number, part in enumerate(map.parts):
        boxes["part", number] = box(("part", number), part, part.name)
    for event in map.events:
        boxes["event", event.type] = box(("event", event.type), event, event.type)
    return boxes


def _letters(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text)


def _arrows(map: Map) -> Iterator[tuple[_Key, _Key, bool]]:
    for number, part in enumerate(map.parts):
        for type in part.takes:
            yield ("event", type), ("part", number), type in part.crosses
        for type in part.emits:
            yield ("part", number), ("event", type), type in part.crosses


def _columns(map: Map) -> dict[_Key, int]:
    """Put everything to the right of all that leads to it; what would lead back to itself is let be."""
    before: dict[_Key, list[_Key]] = {}
    for start, end, _ in _arrows(map):
        before.setdefault(end, []).append(start)
    columns: dict[_Key, int] = {}

    def column(key: _Key, seen: tuple[_Key, ...]) -> int:
        if key not in columns:
            earlier = [column(each, (*seen, key)) for each in before.get(key, ()) if each not in (*seen, key)]
            first = 1 if key[0] == "event" else 0  # an event that nobody is known to emit stands with the others
            columns[key] = max([first, *(each + 1 for each in earlier)])
        return columns[key]

    for number in range(len(map.parts)):
        column(("part", number), ())
    for event in map.events:
        column(("event", event.type), ())
    return columns


def _lines(map: Map, boxes: dict[_Key, Spot]) -> tuple[list[Line], list[Spot]]:
    """Cut arrows into pieces; those from one box share their way."""
    bends: dict[tuple[_Key, int, bool], Spot] = {}
    lines: dict[tuple[int, int], Line] = {}
    for start, end, crosses in _arrows(map):
        source, target = boxes[start], boxes[end]
        between = [
            bends.setdefault((start, column, crosses), Spot(None, column, source.band, _BEND))
            for column in range(source.column + 1, target.column)
        ]
        for one, next in pairwise([source, *between, target]):
            lines.setdefault((id(one), id(next)), Line(one, next, crosses))
    return list(lines.values()), list(bends.values())


# --- in which order

_Stacks = dict[tuple[int, int], list[Spot]]
"""What stands above each other, by column and band."""


def _stacks(spots: Iterable[Spot]) -> _Stacks:
    stacks: _Stacks = {}
    for spot in spots:
        stacks.setdefault((spot.column, spot.band), []).append(spot)
    return stacks


def _order(stacks: _Stacks) -> None:
    for stack in stacks.values():
        _number(stack)
    for sweep in range(_SWEEPS):
        for _, stack in sorted(stacks.items(), key=lambda each: each[0], reverse=bool(sweep % 2)):
            stack.sort(key=lambda spot: _mean(spot.right if sweep % 2 else spot.left, spot.y))
            _number(stack)


def _number(stack: list[Spot]) -> None:
    for place, spot in enumerate(stack):
        spot.y = spot.band + (place + 0.5) / len(stack)


def _mean(spots: list[Spot], otherwise: float) -> float:
    return sum(each.y for each in spots) / len(spots) if spots else otherwise


# --- where


def _set_columns(spots: Iterable[Spot], lines: Iterable[Line]) -> float:
    """Set `x`, and one width for all of a column; return the width of the map."""
    widths: dict[int, float] = {}
    for spot in spots:
        widths[spot.column] = max(widths.get(spot.column, 0.0), spot.width)
    leaving = Counter(line.start.column for line in lines)
    left, x = dict[int, float](), _MARGIN + _INSIDE
    gap = 0.0
    for column in sorted(widths):
        left[column] = x
        gap = min(_BETWEEN + _EACH * leaving[column], _WIDEST)
        x += widths[column] + gap
    for spot in spots:
        spot.x, spot.width = left[spot.column], widths[spot.column]
    return x - gap + _INSIDE + _MARGIN


def _set_bands(map: Map, modules: list[str | None], stacks: _Stacks) -> list[Band]:
    bands: list[Band] = []
    top = _MARGIN
    for number, module in enumerate(modules):
        inside = max(_stacked(stack) for (_, band), stack in stacks.items() if band == number)
        title = module if module is not None else f"{map.app}, in no module" if map.modules else map.app
        bands.append(Band(title, module, top, _TITLE + inside + _INSIDE))
        top += bands[-1].height + _MARGIN
    return bands


def _stacked(stack: list[Spot]) -> float:
    return sum(each.height for each in stack) + _GAP * (len(stack) - 1)


def _settle(stacks: _Stacks, bands: list[Band]) -> None:
    """Move everything as near to the height of its neighbours as its stack and its band let it."""
    limits = [(band.top + _TITLE, band.top + band.height - _INSIDE) for band in bands]
    for (_, band), stack in stacks.items():
        middle = sum(limits[band]) / 2
        _place(stack, [middle] * len(stack), limits[band])
    for sweep in range(_SWEEPS):
        for (_, band), stack in sorted(stacks.items(), key=lambda each: each[0], reverse=bool(sweep % 2)):
            wanted = [_mean([*spot.left, *spot.right], spot.y) for spot in stack]
            _place(stack, wanted, limits[band])


def _place(stack: list[Spot], wanted: list[float], limits: tuple[float, float]) -> None:
    """Set `y` with the least squares from what is wanted, in order and apart: pool the neighbours that collide."""
    offsets = [0.0]
    for one, next in pairwise(stack):
        offsets.append(offsets[-1] + (one.height + next.height) / 2 + _GAP)
    pools: list[tuple[float, int]] = []
    for want, offset in zip(wanted, offsets, strict=True):
        pool = (want - offset, 1)
        while pools and pools[-1][0] > pool[0]:
            mean, size = pools.pop()
            pool = ((mean * size + pool[0] * pool[1]) / (size + pool[1]), size + pool[1])
        pools.append(pool)
    first, last = limits[0] + stack[0].height / 2, limits[1] - stack[-1].height / 2 - offsets[-1]
    starts = [min(max(mean, first), last) for mean, size in pools for _ in range(size)]
    for spot, start, offset in zip(stack, starts, offsets, strict=True):
        spot.y = start + offset
