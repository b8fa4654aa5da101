"""Proofs: that an event is in what was sealed, that a newer checkpoint has grown out of an older one; and exports."""

from __future__ import annotations

import base64
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

import msgspec

from ensue.errors import NotSealed, SealBroken, UnknownName
from ensue.log import Log, Selection, Steps
from ensue.seals import stored
from ensue.seals.leaves import Fields, leaf_of, read_fields
from ensue.seals.sealing import last_checkpoint
from ensue.seals.tree import Asking, consistency_path, inclusion_path
from ensue.seals.verifier import FIELDS, Checkpoint, Untrue, check_consistency, read_checkpoint, root_by_inclusion

_TILES = 16


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """An event is in what was sealed: to be checked by `ensue.seals.verifier`, without the log."""

    format: str = "ensue.proof/1"
    event: dict[str, Any] | None
    """What is hashed of it; None: it was pruned, and only its hash is known."""
    leaf: str
    """Its hash, in hexadecimal digits."""
    position: int
    index: int
    """Which leaf of the tree it is."""
    path: list[str]
    """The hashes from the leaf to the root, in base64."""
    checkpoint: str


class Growth(msgspec.Struct, frozen=True, kw_only=True):
    """A newer checkpoint has grown out of an older one: to be checked likewise."""

    format: str = "ensue.consistency/1"
    old: str
    new: str
    path: list[str]


def prove(log: Log, event: UUID | str | int, keys: Sequence[str]) -> Steps[Proof]:
    """Prove that an event, given by its id or its position, is in what the last checkpoint has sealed.

    Raises `UnknownName` if there is no such event, `NotSealed` if it is not in a checkpoint yet, and `SealBroken` if it
    is not what was sealed.
    """
    position = event if isinstance(event, int) else (yield from _position(log, str(event)))
    checkpoint = yield from _last(log, keys)
    if position > checkpoint.position:
        raise NotSealed(
            f"the event at position {position} has not been sealed: the last checkpoint ends at position "
            f"{checkpoint.position}; seal it first: ensue seal"
        )
    tile = yield from stored.leaves_at(log, position)
    at = -1 if tile is None else bisect_left(tile.positions, position)
    if tile is None or at >= len(tile.positions) or tile.positions[at] != position:
        raise SealBroken(
            f"no event was sealed at position {position}. Either there was none, or `ensue verify` says more"
        )
    rows = yield from read_fields(log.dialect, position - 1, position, 1)
    leaf, index = tile.hash(at), tile.first_index + at
    if rows and leaf_of(rows[0]) != leaf:
        raise SealBroken(f"the event at position {position} is not the one that was sealed: see `ensue verify`")
    path = yield from _path(log, inclusion_path(index, checkpoint.size))
    try:
        if root_by_inclusion(index, checkpoint.size, leaf, path) != checkpoint.root:
            raise Untrue("its root is another one")
    except Untrue as error:
        raise SealBroken(
            f"the tree beside the log is not the one that was signed: {error}; see `ensue verify`"
        ) from None
    return Proof(
        event=as_object(rows[0]) if rows else None,
        leaf=leaf.hex(),
        position=position,
        index=index,
        path=_coded(path),
        checkpoint=checkpoint.note,
    )


def prove_growth(log: Log, old: Checkpoint, keys: Sequence[str]) -> Steps[Growth]:
    """Prove that the last checkpoint has grown out of an older one; raise `SealBroken` if it has not."""
    new = yield from _last(log, keys)
    try:
        if new.origin != old.origin:
            raise Untrue(f"they are of different logs, {old.origin} and {new.origin}")
        if old.size > new.size:
            raise Untrue(f"the last one has {new.size} leaves, that one had {old.size}")
        path = yield from _path(log, consistency_path(old.size, new.size))
        check_consistency(old.size, old.root, new.size, new.root, path)
    except Untrue as error:
        raise SealBroken(f"the last checkpoint has not grown out of that one: {error}") from None
    return Growth(old=old.note, new=new.note, path=_coded(path))


def _position(log: Log, id: str) -> Steps[int]:
    rows = yield from log.read(Selection(id=id), 1)
    if not rows:
        raise UnknownName(
            f"the log has no event {id}. If it was pruned, name it by its position: its hash is still in the seal"
        )
    return rows[0].position


def _last(log: Log, keys: Sequence[str]) -> Steps[Checkpoint]:
    last = yield from last_checkpoint(log)
    if last is None:
        raise NotSealed("nothing has been sealed yet: ensue seal, or app.seal(…) and a worker")
    try:
        return read_checkpoint(last[2], keys)
    except Untrue as error:
        raise SealBroken(f"the last checkpoint proves nothing: {error}; see `ensue verify`") from None


def _path(log: Log, asking: Asking[list[bytes]]) -> Steps[list[bytes]]:
    try:
        return (yield from stored.answer(log, asking))
    except Untrue as error:
        raise SealBroken(f"the tree beside the log is damaged: {error}; see `ensue verify`") from None


def _coded(hashes: Sequence[bytes]) -> list[str]:
    return [base64.b64encode(each).decode() for each in hashes]


# --- events for an auditor


def as_object(fields: Fields) -> dict[str, Any]:
    """Return what is hashed of an event, by the names of its parts."""
    return dict(zip(FIELDS, fields, strict=True))


def event_lines(log: Log, keys: Sequence[str]) -> Iterator[bytes]:
    """Yield the events that the last checkpoint has sealed as JSON, one line each, with the index of their leaf.

    An event that is gone has "gone": true. Memory stays the same for any log. Raises `NotSealed`.
    """
    size = log.own.run(_last(log, keys)).size
    behind, expected = 0, 0
    for first in range(0, (size + 255) // 256, _TILES):
        tiles = log.own.run(stored.leaves(log, first, first + _TILES))
        for tile in (each.cut(size - each.first_index) for each in tiles):
            expected = tile.first_index
            rows = deque(log.own.run(read_fields(log.dialect, behind, tile.last_position, 1_000_000)))
            for at, position in enumerate(tile.positions):
                while rows and rows[0][0] < position:
                    yield _line(None, rows.popleft())
                if rows and rows[0][0] == position:
                    yield _line(expected + at, rows.popleft())
                else:
                    yield _encode({"index": expected + at, "position": position, "gone": True}) + b"\n"
            behind = tile.last_position


_encode = msgspec.json.encode


def _line(index: int | None, fields: Fields) -> bytes:
    return _encode({"index": index, **as_object(fields)}) + b"\n"
