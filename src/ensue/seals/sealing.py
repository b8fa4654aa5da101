"""Sealing: new events become leaves, and what the tree then is gets signed; operations in the open transaction."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from ensue.errors import SealBroken
from ensue.log import Call, Log, Steps, iso
from ensue.seals import stored
from ensue.seals.keys import SigningKey
from ensue.seals.leaves import leaf_of, read_fields
from ensue.seals.tree import edge_names, grow, hashes_in, subtree
from ensue.seals.verifier import HASH, TILE, Checkpoint, Untrue, read_checkpoint

_BATCH = 2048
"""Events that are in memory at once."""


class Sealed(msgspec.Struct, frozen=True, kw_only=True):
    """How far the seal is."""

    origin: str
    size: int
    """How many events have been sealed."""
    position: int
    """The last of them."""
    added: int
    """How many are new since the seal before."""
    signed: bool
    """False: nothing is new, this is the last checkpoint there was."""
    note: str
    """The signed checkpoint (C2SP signed-note); empty if nothing has been sealed."""


def extend(log: Log, until: int, limit: int | None = None) -> Steps[int]:
    """Give the events up to a position, which is complete, their leaves, at most so many; return how many got one.

    Whoever else does so is waited for, and what has been done is not done again.
    """
    sql = log.dialect.sql
    yield Call(sql["begin_seal"])
    size, position = (yield Call(sql["lock_seal"]))[0]
    begun = size
    edge, positions = yield from _edge(log, size, position)
    while position < until and (limit is None or size - begun < limit):
        rows = yield from read_fields(log.dialect, position, until, _BATCH)
        if not rows:
            break
        positions += [row[0] for row in rows]
        changed = grow(size, edge, [leaf_of(row) for row in rows])
        first = size // TILE * TILE
        size, position = size + len(rows), rows[-1][0]
        for name, hashes in changed.items():
            at = name.number * TILE - first
            yield from stored.put(log, name, hashes, () if name.level else positions[at : at + TILE])
        del positions[: size // TILE * TILE - first]
    added: int = size - begun
    if added:
        yield sql["move_seal"](size=size, position=position)
    return added


def _edge(log: Log, size: int, position: int) -> Steps[tuple[dict[int, bytes], list[int]]]:
    """Return the hashes of the tiles that are not full, and the positions in that of level 0."""
    edge: dict[int, bytes] = {}
    positions: list[int] = []
    for name in edge_names(size):
        if name.level:
            found = yield from stored.tiles(log, name.level, name.number, name.number + 1)
            edge[name.level] = found.get(name.number, b"")
        else:
            rows = yield from stored.leaves(log, name.number, name.number + 1)
            edge[0] = rows[0].hashes if rows else b""
            positions = list(rows[0].positions) if rows else []
        if len(edge[name.level]) != HASH * hashes_in(name, size):
            raise SealBroken(
                f"the tree of the seal lacks hashes of its {size} leaves: tile {name.number} of level {name.level} is "
                f"damaged. Nothing was sealed; `ensue verify` tells what is still as it was sealed"
            )
    if positions and positions[-1] != position:
        raise SealBroken(
            f"the tree of the seal ends at position {positions[-1]}, not at {position}: it is damaged. Nothing was "
            "sealed; `ensue verify` tells what is still as it was sealed"
        )
    return edge, positions


# --- signing


def last_checkpoint(log: Log) -> Steps[tuple[int, int, str] | None]:
    """Return size, position and note of the last checkpoint."""
    rows = yield Call(log.dialect.sql["last_seal_checkpoint"])
    return _row(rows[0]) if rows else None


def sign(log: Log, key: SigningKey, trusted: Sequence[str]) -> Steps[Sealed]:
    """Sign what the tree is now, if it has grown since the last checkpoint.

    Raises `SealBroken` if it is not the tree of the last checkpoint that has grown: nobody gets a signature under a
    history that was rewritten.
    """
    yield Call(log.dialect.sql["begin_seal"])
    size, position = (yield Call(log.dialect.sql["lock_seal"]))[0]
    last = yield from last_checkpoint(log)
    before = 0
    if last is not None:
        before = yield from _check_last(log, size, last[2], trusted)
    if size == before:
        note = "" if last is None else last[2]
        return Sealed(origin=key.name, size=size, position=position, added=0, signed=False, note=note)
    try:
        root = yield from stored.answer(log, subtree(0, size))
    except Untrue as error:
        raise _broken(str(error)) from None
    now = iso(datetime.now(UTC))
    text = f"{key.name}\n{size}\n{base64.b64encode(root).decode()}\nposition {position}\nsealed {now}\n"
    note = key.sign(text)
    yield log.dialect.sql["put_seal_checkpoint"](size=size, position=position, note=note)
    return Sealed(origin=key.name, size=size, position=position, added=size - before, signed=True, note=note)


def _check_last(log: Log, size: int, note: str, trusted: Sequence[str]) -> Steps[int]:
    """Return how many leaves the last checkpoint has; raise `SealBroken` unless they are those of the tree."""
    try:
        before = read_checkpoint(note, trusted)
    except Untrue as error:
        raise _broken(
            f"its last checkpoint is not to be trusted: {error}. If the key was changed, trust the old one's public "
            "key too"
        ) from None
    try:
        if before.size > size:
            raise Untrue(f"it has {size} leaves, and had {before.size} when it was signed last")
        root = yield from stored.answer(log, subtree(0, before.size))
    except Untrue as error:
        raise _broken(str(error)) from None
    if root != before.root:
        raise _broken(f"its first {before.size} leaves are not those that were signed last")
    return before.size


def _broken(why: str) -> SealBroken:
    return SealBroken(f"the seal is broken: {why}. Nothing was signed; `ensue verify` names what was altered")


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How far the seal is, and whether it can go on."""

    size: int
    """How many events have a leaf."""
    position: int
    """The last of them."""
    signed_size: int
    """How many of them have been signed."""
    signed_at: datetime | None
    broken: str | None
    """Why nothing is signed any more; None: it can go on."""


def standing(log: Log, trusted: Sequence[str]) -> Steps[Standing | None]:
    """Return how far the seal is, None if nothing has ever been sealed; a few tiles are looked at, and no event."""
    rows = yield Call(log.dialect.sql["seal_state"])
    if not rows:
        return None
    size, position = rows[0]
    last = yield from last_checkpoint(log)
    broken, signed_at = None, None
    try:
        yield from _edge(log, size, position)
        if last is not None:
            yield from _check_last(log, size, last[2], trusted)
            signed_at = datetime.fromisoformat(read_checkpoint(last[2], trusted).sealed_at)
    except SealBroken as error:
        broken = str(error)
    return Standing(
        size=size, position=position, signed_size=last[0] if last else 0, signed_at=signed_at, broken=broken
    )


def checkpoints(log: Log, trusted: Sequence[str], after: int = 0) -> Steps[list[Checkpoint]]:
    """Return the checkpoints of more than so many leaves; raise `SealBroken` for one that is not to be trusted."""
    found: list[Checkpoint] = []
    while rows := (yield from checkpoint_rows(log, after, 1000)):
        for size, _, note in rows:
            try:
                found.append(read_checkpoint(note, trusted))
            except Untrue as error:
                raise _broken(f"the checkpoint of {size} leaves is not to be trusted: {error}") from None
        after = rows[-1][0]
    return found


def checkpoint_rows(log: Log, after: int, limit: int) -> Steps[list[tuple[int, int, str]]]:
    """Return size, position and note of the first checkpoints of more than so many leaves, as they are stored."""
    return [_row(row) for row in (yield log.dialect.sql["seal_checkpoints"](after=after, limit=limit))]


def _row(row: Sequence[Any]) -> tuple[int, int, str]:
    size, position, note = row
    return size, position, note.decode("utf-8", "replace") if isinstance(note, bytes) else str(note)
