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
    events: list[Fields | None]
    """For each leaf the event at its position; None: there is none."""
    between: list[Fields]
    """Events at positions that have no leaf."""
    damaged: str = ""
    """What is wrong with the tile itself; then its positions are those of the events that are there."""
    lost: bool = False
    """Nothing can be said of its events."""

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
    before, pieces = behind, list[Piece]()
    faults: dict[int, str] = {}
    for number in range(first, after):
        width = min(TILE, size - number * TILE)
        faults[number] = _fault(tiles.get(number), width, before)
        if not faults[number]:
            before = tiles[number].last_position
    last = (after - 1) * TILE + TILE >= size
    bound = end if last or after not in tiles else tiles[after].first_position - 1
    rows = yield from _events(log, behind, bound)
    at = [row[0] for row in rows]
    start = 0
    for number in range(first, after):
        stop = _first_of(tiles, faults, range(number + 1, after), bound)
        cut = bisect_right(at, stop)
        pieces.append(
            _piece(tiles.get(number), number, min(TILE, size - number * TILE), faults[number], rows[start:cut])
        )
        start = cut
    return Part(
        pieces,
        {
            level * TILE + each: hashes[each * HASH : (each + 1) * HASH]
            for level, hashes in roots.items()
            for each in range(len(hashes) // HASH)
        },
        bound,
    )


def _first_of(tiles: dict[int, Leaves], faults: dict[int, str], numbers: range, bound: int) -> int:
    """Return the position before that of the next tile whose positions can be believed."""
    for number in numbers:
        if not faults[number]:
            return tiles[number].first_position - 1
        return bound if number + 1 >= numbers.stop else _first_of(tiles, faults, range(number + 1, numbers.stop), bound)
    return bound


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
        return Piece(tile, list(rows), [])
    by_position = {row[0]: row for row in rows}
    events = [by_position.pop(position, None) for position in tile.positions]
    return Piece(tile, events, list(by_position.values()))


def _without_positions(tile: Leaves | None, number: int, width: int, fault: str, rows: Sequence[Fields]) -> Piece:
    """Take the events that are there for those of a damaged tile, if they are as many."""
    hashes = tile.hashes if tile is not None and len(tile.hashes) == HASH * width else b"".join(map(leaf_of, rows))
    positions = tuple(row[0] for row in rows)
    made = Leaves(number, hashes, positions, positions[-1] if positions else 0)
    if len(rows) != width:
        return Piece(made, [], [], fault, lost=True)
    return Piece(made, list(rows), [], fault)
