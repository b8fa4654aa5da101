"""The tree as the log's database holds it, beside the log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any, TypeVar

import msgspec

from ensue.log import Call, Log, Steps
from ensue.seals.tree import Asking, TileName
from ensue.seals.verifier import HASH, TILE

T = TypeVar("T")


class Leaves(msgspec.Struct, frozen=True):
    """A tile of level 0: the hashes of up to 256 events, and where these stand."""

    number: int
    hashes: bytes
    positions: tuple[int, ...]
    ends_at: int
    """The position of the last one, as it is stored beside them."""

    @property
    def first_index(self) -> int:
        """The index of its first leaf."""
        return self.number * TILE

    @property
    def first_position(self) -> int:
        """Where its first event stands, or stood."""
        return self.positions[0]

    @property
    def last_position(self) -> int:
        """Where its last event stands, or stood."""
        return self.positions[-1]

    def __len__(self) -> int:
        return len(self.hashes) // HASH

    def cut(self, width: int) -> Leaves:
        """Return it as it was when it had so many leaves, if it has more; it may have grown since."""
        if not 0 < width < len(self) or len(self.positions) != len(self) or self.positions[-1] != self.ends_at:
            return self
        return Leaves(self.number, self.hashes[: width * HASH], self.positions[:width], self.positions[width - 1])

    def hash(self, at: int) -> bytes:
        """Return one of its hashes."""
        return self.hashes[at * HASH : (at + 1) * HASH]


class Progress(msgspec.Struct, frozen=True):
    """How far the tree is."""

    size: int
    position: int


def progress(log: Log) -> Steps[Progress | None]:
    """Return how far the tree is, None if nothing has ever been sealed."""
    rows = yield Call(log.dialect.sql["seal_state"])
    return Progress(*rows[0]) if rows else None


def leaves(log: Log, first: int, after: int) -> Steps[list[Leaves]]:
    """Return the tiles of level 0 of these numbers that there are."""
    return [_leaves(row) for row in (yield from _tiles(log, 0, first, after))]


def leaves_at(log: Log, position: int) -> Steps[Leaves | None]:
    """Return the tile in which the event of a position is, or would be."""
    rows = yield log.dialect.sql["seal_tile_at"](position=position)
    return _leaves(rows[0]) if rows else None


def last_leaves(log: Log) -> Steps[Leaves | None]:
    """Return the last tile of level 0."""
    rows = yield Call(log.dialect.sql["last_seal_tile"])
    return _leaves(rows[0]) if rows else None


def tiles(log: Log, level: int, first: int, after: int) -> Steps[dict[int, bytes]]:
    """Return the hashes of the tiles of a level that there are, by number."""
    return {row[0]: _bytes(row[1]) for row in (yield from _tiles(log, level, first, after))}


def _tiles(log: Log, level: int, first: int, after: int) -> Steps[Sequence[Sequence[Any]]]:
    return (yield log.dialect.sql["seal_tiles"](level=level, first=first, after=after))


def answer(log: Log, asking: Asking[T], known: dict[TileName, bytes] | None = None) -> Steps[T]:
    """Carry out what asks for tiles; one that is not there has no hashes."""
    cache = {} if known is None else known
    try:
        name = next(asking)
        while True:
            if name not in cache:
                found = yield from tiles(log, name.level, name.number, name.number + 1)
                cache[name] = found.get(name.number, b"")
            name = asking.send(cache[name])
    except StopIteration as done:
        result: T = done.value
        return result


def put(log: Log, name: TileName, hashes: bytes, positions: Sequence[int] = ()) -> Steps[None]:
    """Write a tile, anew or longer than it was; one of level 0 with the positions of its events."""
    yield log.dialect.sql["put_seal_tile"](
        level=name.level,
        number=name.number,
        hashes=hashes,
        first_position=positions[0] if positions else None,
        last_position=positions[-1] if positions else None,
        steps=pack(positions) if positions else None,
    )


def _leaves(row: Sequence[Any]) -> Leaves:
    number, hashes, first, last, steps = row
    positions = tuple(accumulate(unpack(_bytes(steps)), initial=first or 0))
    return Leaves(number, _bytes(hashes), positions, last or 0)


def _bytes(value: Any) -> bytes:
    if isinstance(value, str):  # somebody else wrote it
        return value.encode()
    return value if isinstance(value, bytes) else b""


# --- positions, as distances in LEB128


def pack(positions: Sequence[int]) -> bytes:
    """Return how far each position but the first lies behind the one before."""
    packed = bytearray()
    for before, position in pairwise(positions):
        step = position - before
        while step > 0x7F:
            packed.append(step & 0x7F | 0x80)
            step >>= 7
        packed.append(step)
    return bytes(packed)


def unpack(packed: bytes) -> Iterator[int]:
    """Yield the distances again."""
    step, shift = 0, 0
    for byte in packed:
        step |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            yield step
            step, shift = 0, 0
