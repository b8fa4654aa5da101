"""The tree in tiles: how it grows, and which hashes prove what; without I/O.

RFC 6962, section 2.1, for the tree and its proofs; C2SP tlog-tiles for the tiles. A tile of level 0 has the hashes of
256 leaves, one of level 1 the roots of 256 full tiles of level 0, and so on.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from hashlib import sha256
from typing import NamedTuple, TypeAlias, TypeVar

from ensue.seals.verifier import HASH, TILE, Untrue

T = TypeVar("T")

HEIGHT = 8
"""Levels of the binary tree in a tile."""


class TileName(NamedTuple):
    """Which tile."""

    level: int
    number: int


Asking: TypeAlias = Generator[TileName, bytes, T]
"""Yields the name of a tile, receives its hashes, returns its result."""


def root_of(hashes: bytes) -> bytes:
    """Return the root of as many hashes as a power of two."""
    nodes = [hashes[at : at + HASH] for at in range(0, len(hashes), HASH)]
    while len(nodes) > 1:
        nodes = [sha256(b"\1" + nodes[at] + nodes[at + 1]).digest() for at in range(0, len(nodes), 2)]
    return nodes[0]


def grow(size: int, edge: dict[int, bytes], leaves: Sequence[bytes]) -> dict[TileName, bytes]:
    """Append leaves to a tree of that size; return the tiles that are new or longer, whole.

    `edge` holds of each level the hashes of the tile that is not full, and is brought up to date.
    """
    changed: dict[TileName, bytes] = {}
    level, start, added = 0, size, b"".join(leaves)
    while added:
        number, hashes = start // TILE, edge.pop(level, b"") + added
        above: list[bytes] = []
        while len(hashes) >= HASH * TILE:
            full, hashes = hashes[: HASH * TILE], hashes[HASH * TILE :]
            changed[TileName(level, number)] = full
            above.append(root_of(full))
            number += 1
        if hashes:
            changed[TileName(level, number)] = edge[level] = hashes
        level, start, added = level + 1, start // TILE, b"".join(above)
    return changed


def edge_names(size: int) -> list[TileName]:
    """Return the tiles of a tree of that size that are not full, one of each level at most."""
    names: list[TileName] = []
    level = 0
    while size:
        if size % TILE:
            names.append(TileName(level, size // TILE))
        level, size = level + 1, size // TILE
    return names


def hashes_in(name: TileName, size: int) -> int:
    """Return how many hashes a tile has in a tree of that size."""
    found: int = size // TILE**name.level - name.number * TILE
    return max(0, min(TILE, found))


# --- proofs


def subtree(first: int, after: int) -> Asking[bytes]:
    """Return the hash over the leaves from one index up to another."""
    leaves = after - first
    if not leaves:
        return sha256(b"").digest()
    height = leaves.bit_length() - 1
    if leaves == 1 << height and first % leaves == 0:
        level, within = divmod(height, HEIGHT)
        start, width = first >> (HEIGHT * level), 1 << within
        hashes = yield TileName(level, start // TILE)
        begin = HASH * (start % TILE)
        found = hashes[begin : begin + HASH * width]
        if len(found) < HASH * width:
            raise Untrue(f"tile {start // TILE} of level {level} lacks hashes")
        return root_of(found)
    middle = first + _largest_power_below(leaves)
    left = yield from subtree(first, middle)
    right = yield from subtree(middle, after)
    return sha256(b"\1" + left + right).digest()


def full_subtrees(size: int) -> list[tuple[int, int]]:
    """Return height and first leaf of the full subtrees that a tree of that size consists of, the largest first."""
    found: list[tuple[int, int]] = []
    first = 0
    for height in range(size.bit_length() - 1, -1, -1):
        if size >> height & 1:
            found.append((height, first))
            first += 1 << height
    return found


def inclusion_path(index: int, size: int) -> Asking[list[bytes]]:
    """Return the hashes that prove that the leaf of that index is in the tree of that size (PATH in RFC 6962)."""
    path: list[bytes] = []
    first, after = 0, size
    while after - first > 1:
        middle = first + _largest_power_below(after - first)
        if index < middle:
            path.append((yield from subtree(middle, after)))
            after = middle
        else:
            path.append((yield from subtree(first, middle)))
            first = middle
    return path[::-1]


def consistency_path(old: int, new: int) -> Asking[list[bytes]]:
    """Return the hashes that prove that the tree of size `new` begins with that of size `old` (PROOF in RFC 6962)."""
    path: list[bytes] = []
    first, after, whole = 0, new, True
    while old != after:
        middle = first + _largest_power_below(after - first)
        if old <= middle:
            path.append((yield from subtree(middle, after)))
            after = middle
        else:
            path.append((yield from subtree(first, middle)))
            first, whole = middle, False
    if not whole:
        path.append((yield from subtree(first, after)))
    return path[::-1]


def _largest_power_below(number: int) -> int:
    return 1 << (number - 1).bit_length() - 1
