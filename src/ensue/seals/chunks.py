"""Reading the tree and the events beside it, part by part, each part at one moment."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import msgspec

from ensue.log import Log, Steps
from ensue.seals import stored
from ensue.seals.leaves import Fields, leaf_of, read_fields
from ensue.seals.positions import Positions
from ensue.seals.stored import Leaves
from ensue.seals.verifier import HASH, PRUNED, TILE

TILES = 16
"""Tiles of level 0 that are read together."""
_NOTES = 100
_EVENTS = 4096

_note = msgspec.json.Decoder(dict[str, Any])


class Piece(msgspec.Struct):
    """A tile of level 0, and the events that stand where its leaves say, and between them."""

    leaves: Leaves
    width: int
    """How many leaves it should have."""
    events: list[Fields | None]
    """For each leaf the event at its position; None: there is none."""
    between: list[Fields]
    """Events at positions that have no leaf."""
    damaged: str = ""
    """What is wrong with the tile itself; then its positions are those of the events that are there."""
    lost: bool = False
    """It is not known which event belongs to which leaf: those that are there are `between`."""
    until: int = 0
    """The position up to which events belong to it."""

    @property
    def whole(self) -> bool:
        """True if all events are there and nothing else."""
        return not self.between and not self.damaged and None not in self.events


class Part(msgspec.Struct):
    """Some tiles after another, with the roots that level 1 has for those that are full."""

    pieces: list[Piece]
    roots: dict[int, bytes]
    until: int
    """The position up to which events have been looked at."""


class Prunes:
    """The positions of events of which the log says that they were pruned, as far as it was read."""

    def __init__(self) -> None:
        self.positions = Positions()
        self._read_to = 0

    def read_on(self, log: Log) -> Steps[None]:
        """Read what the log says meanwhile."""
        while rows := (yield log.dialect.sql["prune_notes"](type=PRUNED, after=self._read_to, limit=_NOTES)):
            for position, data in rows:
                for first, last in _ranges(data, position):
                    self.positions.add(first, last)
            self._read_to = rows[-1][0]


def _ranges(data: str | bytes, position: int) -> list[tuple[int, int]]:
    """Return what a note says; one that was altered says nothing, and its own leaf tells that."""
    try:
        found = msgspec.convert(_note.decode(data)["positions"], list[tuple[int, int]])
    except (msgspec.MsgspecError, KeyError, TypeError, UnicodeError):
        return []
    return found if all(0 < first <= last < position for first, last in found) else []


def read_part(log: Log, first: int, after: int, size: int, behind: int, end: int, prunes: Prunes) -> Steps[Part]:
    """Read tiles by number, and the events behind a position that belong to them.

    `size` is how many leaves the tree has, and `end` the position of the last one.
    """
    yield from prunes.read_on(log)
    found = yield from stored.leaves(log, first, after + 1)
    tiles = {each.number: each.cut(size - each.first_index) for each in found}
    roots = (yield from stored.tiles(log, 1, first // TILE, (after - 1) // TILE + 1)) if size > TILE else {}
    faults: dict[int, str] = {}
    before = behind
    for number in range(first, after + 1):
        fault = faults[number] = _fault(tiles.get(number), min(TILE, size - number * TILE), before)
        before = before if fault else tiles[number].last_position
    ends = _ends(tiles, faults, behind, end if after * TILE >= size else None)
    rows = yield from _events(log, behind, ends[-1])
    at = [row[0] for row in rows]
    start, pieces = 0, list[Piece]()
    for number, stop in zip(range(first, after), ends, strict=True):
        cut = bisect_right(at, stop)
        width = min(TILE, size - number * TILE)
        pieces.append(_piece(tiles.get(number), number, width, faults[number], rows[start:cut]))
        pieces[-1].until = stop
        start = cut
    return Part(
        pieces,
        {
            level * TILE + each: hashes[each * HASH : (each + 1) * HASH]
            for level, hashes in roots.items()
            for each in range(len(hashes) // HASH)
        },
        ends[-1],
    )


def _ends(tiles: dict[int, Leaves], faults: dict[int, str], behind: int, end: int | None) -> list[int]:
    """Return for each tile but the last one the position up to which events belong to it.

    What lies between two tiles counts to the one before; if one of them is damaged, to that one.
    """
    ends: list[int] = []
    numbers = list(faults)
    for at, number in enumerate(numbers[:-1]):
        good = next((each for each in numbers[at + 1 :] if not faults[each]), None)
        if not faults[number] and (good is None or good > number + 1) and (end is None or at + 2 < len(numbers)):
            found = tiles[number].last_position
        elif good is not None:
            found = tiles[good].first_position - 1
        else:
            found = end if end is not None else behind
        ends.append(max(found, ends[-1] if ends else behind))
    return ends


def _events(log: Log, after: int, until: int) -> Steps[list[Fields]]:
    found: list[Fields] = []
    while rows := (yield from read_fields(log.dialect, after, until, _EVENTS)):
        found += rows
        after = rows[-1][0]
        if len(rows) < _EVENTS:
            break
    return found


def _fault(tile: Leaves | None, width: int, before: int) -> str:
    """Say what is wrong with a tile, as far as it can be seen without the events."""
    if tile is None:
        return "is missing"
    if len(tile.hashes) != HASH * width:
        return f"has {len(tile.hashes)} bytes of hashes instead of {HASH * width}"
    if len(tile.positions) != width or tile.positions[-1] != tile.ends_at:
        return "has positions that contradict each other"
    rising = all(one < other for one, other in pairwise(tile.positions))
    return "" if rising and tile.positions[0] > before else "has positions that are not in order"


def _piece(tile: Leaves | None, number: int, width: int, fault: str, rows: Sequence[Fields]) -> Piece:
    if fault:
        return _without_positions(tile, number, width, fault, rows)
    assert tile is not None  # noqa: S101 it has no fault
    if len(rows) == width and all(row[0] == position for row, position in zip(rows, tile.positions, strict=True)):
        return Piece(tile, width, list(rows), [])
    by_position = {row[0]: row for row in rows}
    events = [by_position.pop(position, None) for position in tile.positions]
    return Piece(tile, width, events, list(by_position.values()))


def _without_positions(tile: Leaves | None, number: int, width: int, fault: str, rows: Sequence[Fields]) -> Piece:
    """Take the events that are there for those of a damaged tile, if they are as many."""
    hashes = tile.hashes if tile is not None and len(tile.hashes) == HASH * width else b"".join(map(leaf_of, rows))
    positions = tuple(row[0] for row in rows)
    made = Leaves(number, hashes, positions, positions[-1] if positions else 0)
    if len(rows) != width:
        return Piece(made, width, [], list(rows), fault, lost=True)
    return Piece(made, width, list(rows), [], fault)
