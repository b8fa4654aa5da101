"""The walk along the tree: every event is hashed again, and every checkpoint compared with what the tree was there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ensue.seals.chunks import Part, Piece
from ensue.seals.findings import Finding, finding, where
from ensue.seals.leaves import Fields, leaf_of
from ensue.seals.tree import root_of
from ensue.seals.verifier import HASH, TILE, Checkpoint, Frontier

_SAMPLES = 200
"""Events that are compared with each other's places, to see whether they changed them."""
_FULL = HASH * TILE
_SEARCHED = 1_000_000
"""Positions between which it is looked for what was pruned, at most."""

Mark = Literal["changed", "deleted", "inserted", "seal"]


@dataclass(frozen=True, slots=True)
class Signed:
    """A checkpoint, and who says so."""

    checkpoint: Checkpoint
    source: str
    """Where it comes from, in words; empty: the database."""


@dataclass(slots=True)
class Run:
    """Neighbours of which the same is to be said."""

    mark: Mark
    first: int
    last: int
    first_index: int
    last_index: int
    events: int
    what: str = ""


@dataclass(slots=True)
class Samples:
    """Some of the events that are not where they belong, and of the places that lack theirs."""

    events: list[Fields] = field(default_factory=list[Fields])
    places: list[tuple[int, bytes]] = field(default_factory=list[tuple[int, bytes]])

    def add(self, event: Fields | None, place: tuple[int, bytes] | None) -> None:
        if event is not None and len(self.events) < _SAMPLES:
            self.events.append(event)
        if place is not None and len(self.places) < _SAMPLES:
            self.places.append(place)

    def moves(self) -> Iterator[tuple[int, int]]:
        """Yield from where to where events were moved."""
        wanted = {leaf: position for position, leaf in self.places}
        for event in self.events:
            for position, _ in self.places:
                if position != event[0] and wanted.get(leaf_of((position, *event[1:]))) == position:
                    yield position, event[0]


class Walk:
    """Takes in the parts of the tree one after the other, and what is known of them from outside."""

    def __init__(
        self,
        checkpoints: Sequence[Signed],
        frontier: Frontier,
        position: int,
        pruned: Callable[[int], bool],
    ) -> None:
        self._waiting = sorted(checkpoints, key=lambda each: each.checkpoint.size)
        self._sizes = {each.checkpoint.size for each in checkpoints}
        self._pruned = pruned
        self._held = frontier
        """The tree as its hashes say."""
        self._found: Frontier | None = None
        """The tree as the events say; None: they say the same."""
        self._open: list[Run] = []
        """What has been seen since the last checkpoint that was compared."""
        self._windows: list[tuple[int, int]] = []
        """Since then: where level 1 contradicts level 0."""
        self._agreed: dict[str, int] = {}
        """The position of the last checkpoint that was compared and found right, by who says so."""
        self._began = position
        self._failed: set[str] = set()
        self._runs: list[Run] = []
        self._findings: list[Finding] = []
        self._samples = Samples()
        self.checked = 0
        self.gone = 0
        """Events that were pruned."""
        self.compared = 0
        self.last = position
        self._ended = -1
        """The position of the last leaf of the tree, once it is known."""

    @property
    def size(self) -> int:
        """How many leaves it has taken in."""
        return self._held.size

    @property
    def waiting(self) -> list[Signed]:
        """Checkpoints of more leaves than there were so far."""
        return self._waiting

    # --- taking in

    def take(self, part: Part, outside: dict[int, bytes]) -> None:
        """Take in a part; `outside` are the hashes of tiles, by number, of which it is known that they were signed."""
        for piece in part.pieces:
            number = piece.leaves.number
            if piece.lost:
                self._lose(piece, outside.get(number, b""), part.roots.get(number), part.until)
            else:
                self._take(piece, outside.get(number, b""), part.roots.get(number))

    def _take(self, piece: Piece, outside: bytes, root: bytes | None) -> None:
        tile = piece.leaves
        if piece.damaged:
            self._mark(
                "seal", tile.positions[0], tile.positions[-1], tile.first_index, len(piece.events), piece.damaged
            )
        outside = outside[: len(tile.hashes)]
        hashes = outside + tile.hashes[len(outside) :]
        if not piece.damaged:
            self._compare_hashes(piece, outside)
        if piece.whole:
            leaves = [leaf_of(event) for event in piece.events if event is not None]
            self.checked += len(leaves)
            if b"".join(leaves) == hashes:
                self._compare_root(tile.hashes, root, tile.positions)
                self._advance(hashes, hashes, tile.positions)
                return
        found = b"".join(self._look(piece, hashes))
        self._compare_root(tile.hashes, root, tile.positions)
        self._advance(hashes, found, tile.positions)

    def _look(self, piece: Piece, hashes: bytes) -> Iterator[bytes]:
        """Mark what is not as it was sealed; yield the leaves as the events say."""
        for row in piece.between:
            self._mark("inserted", row[0], row[0], -1, 1)
            self._samples.add(row, None)
        for at, (event, position) in enumerate(zip(piece.events, piece.leaves.positions, strict=True)):
            wanted = hashes[at * HASH : (at + 1) * HASH]
            index = piece.leaves.first_index + at
            if event is None:
                yield wanted
                if self._pruned(position):
                    self.gone += 1
                else:
                    self._mark("deleted", position, position, index, 1)
                    self._samples.add(None, (position, wanted))
                continue
            leaf = leaf_of(event)
            self.checked += 0 if piece.whole else 1
            yield leaf
            if leaf != wanted:
                self._mark("changed", position, position, index, 1)
                self._samples.add(event, (position, wanted))

    def _lose(self, piece: Piece, outside: bytes, root: bytes | None, until: int) -> None:
        """Pass a tile of which neither the positions nor all events are there, by its hashes or by its root."""
        there, first = piece.leaves.positions, min(self.last + 1, until)
        last = max([first, *there])
        hashes = outside if len(outside) == HASH * piece.width else piece.leaves.hashes
        tile = f"the tile of {where(first, last)} beside the log {piece.damaged}"
        if self._explained(piece, hashes):
            self._findings.append(finding("seal", first, last, 0, tile))
        else:
            what = (
                f"{tile}, and of its {piece.width} events {len(there)} are there: these cannot be compared, and the "
                "others were pruned or deleted"
            )
            self._findings.append(finding("rewritten", first, last, 0, what))
        if len(hashes) == HASH * piece.width:
            self._advance(hashes, hashes, there)
        elif root is not None:
            self._pass(root)
        else:  # the end: there is nothing to compare the last checkpoints with
            self._failed.update(each.source for each in self._waiting)
            self._waiting = [
                each for each in self._waiting if each.checkpoint.size > piece.leaves.first_index + piece.width
            ]
        self.last = last

    def _explained(self, piece: Piece, hashes: bytes) -> bool:
        """Tell whether the events of a tile without positions have its hashes, and the others were pruned."""
        if len(hashes) != HASH * piece.width or not 0 < piece.until - self.last <= _SEARCHED:
            return False
        known = {hashes[at : at + HASH] for at in range(0, len(hashes), HASH)}
        there = {row[0] for row in piece.between}
        pruned = sum(
            self._pruned(position) for position in range(self.last + 1, piece.until + 1) if position not in there
        )
        if pruned + len(there) != piece.width or not known.issuperset(leaf_of(row) for row in piece.between):
            return False
        self.checked += len(there)
        self.gone += pruned
        return True

    def _pass(self, root: bytes) -> None:
        """Go on behind a tile that is not there; checkpoints inside it cannot be compared."""
        after = self._held.size + TILE
        self._waiting = [each for each in self._waiting if each.checkpoint.size >= after]
        self._held.add(root, 8)
        if self._found is not None:
            self._found.add(root, 8)
        self._compare()

    def _compare_hashes(self, piece: Piece, outside: bytes) -> None:
        """Mark the hashes beside the log that are not those that somebody else has kept."""
        tile = piece.leaves
        if outside and tile.hashes[: len(outside)] != outside:
            wrong = [
                position
                for at, position in enumerate(tile.positions[: len(outside) // HASH])
                if tile.hash(at) != outside[at * HASH : (at + 1) * HASH]
            ]
            self._mark("seal", wrong[0], wrong[-1], tile.first_index, len(wrong), "has other hashes than were exported")

    def _compare_root(self, hashes: bytes, root: bytes | None, positions: Sequence[int]) -> None:
        if len(hashes) == _FULL and root != root_of(hashes):
            self._windows.append((positions[0], positions[-1]))

    def _mark(self, mark: Mark, first: int, last: int, index: int, events: int, what: str = "") -> None:
        run = self._open[-1] if self._open else None
        joins = run is not None and run.mark == mark != "seal" and index not in self._sizes
        if run is not None and joins and (index < 0 or index == run.last_index + 1):
            run.last, run.last_index, run.events = last, index, run.events + events
        else:
            self._open.append(Run(mark, first, last, index, index, events, what))

    # --- growing, and comparing with checkpoints

    def _advance(self, held: bytes, found: bytes, positions: Sequence[int]) -> None:
        size = self._held.size
        within = self._waiting and self._waiting[0].checkpoint.size < size + len(held) // HASH
        if len(held) == _FULL and len(found) == _FULL and size % TILE == 0 and not within:
            if found != held and self._found is None:
                self._found = self._held.copy()
            self._held.add(root_of(held), 8)
            if self._found is not None:
                self._found.add(root_of(found), 8)
            self._compare()
        else:
            for at in range(0, len(held), HASH):
                one, other = held[at : at + HASH], found[at : at + HASH]
                if one != other and self._found is None:
                    self._found = self._held.copy()
                self._held.add(one)
                if self._found is not None:
                    self._found.add(other)
                self._compare()
        self.last = positions[-1] if positions else self.last

    def _compare(self) -> None:
        while self._waiting and self._waiting[0].checkpoint.size <= self._held.size:
            signed = self._waiting.pop(0)
            if signed.checkpoint.size == self._held.size and signed.source not in self._failed:
                self.compared += 1
                self._settle(signed)

    def _settle(self, signed: Signed) -> None:
        """Decide what is true of what has been seen since the last checkpoint."""
        checkpoint = signed.checkpoint
        if self._held.root() == checkpoint.root:
            self._close(checkpoint)
        elif self._found is not None and self._found.root() == checkpoint.root:
            for run in self._open:
                if run.mark == "changed" and run.first_index < checkpoint.size:
                    run.mark, run.what = "seal", "has other hashes than were signed"
            self._held = self._found
            self._close(checkpoint)
        else:
            self._failed.add(signed.source)
            agreed = self._agreed.get(signed.source, self._began)
            windows = [each for each in self._windows if each[1] > agreed]
            first = max(agreed + 1, windows[0][0] if windows else 0)
            last = min(checkpoint.position, windows[-1][1] if windows else checkpoint.position)
            source = signed.source or f"the checkpoint of {checkpoint.sealed_at}"
            self._close(checkpoint)
            self._findings.append(
                finding(
                    "rewritten",
                    first,
                    last,
                    0,
                    f"history and hashes between {where(first, last)} are not those that {source} has signed: they "
                    "were rewritten together, the hash of an event that was pruned was altered, or an older backup was "
                    "restored and went on from there",
                )
            )
            return
        self._agreed[signed.source] = checkpoint.position

    def _close(self, checkpoint: Checkpoint | None) -> None:
        """Let stand what has been seen up to a checkpoint, or at all."""
        for first, last in self._windows:
            if not any(
                run.mark in ("changed", "seal") and run.first <= last and run.last >= first for run in self._open
            ):
                self._open.append(
                    Run("seal", first, last, -1, -1, 0, "has another root on level 1 than its hashes have")
                )
        later = [run for run in self._open if checkpoint is not None and _behind(run, checkpoint)]
        for run in self._open:
            if run in later:
                continue
            before = self._runs[-1] if self._runs else None
            if before is not None and before.mark == run.mark != "seal" and before.last_index + 1 == run.first_index:
                before.last, before.last_index = run.last, run.last_index
                before.events += run.events
            else:
                self._runs.append(run)
        self._open, self._windows, self._found = later, [], None

    # --- what lies behind the end of the tree

    def go_on(self, events: Sequence[Fields]) -> None:
        """Take in events behind the tree, of which checkpoints say that they were sealed."""
        if self._ended < 0:
            self._ended = self.last
        for event in events:
            self._held.add(leaf_of(event))
            self.last = event[0]
            signed = [each for each in self._waiting if each.checkpoint.size == self._held.size]
            for each in signed:
                self.compared += 1
                self._waiting.remove(each)
                agrees = self._held.root() == each.checkpoint.root
                first, last = self._ended + 1, each.checkpoint.position
                what = (
                    f"the tree beside the log ends before {where(first, last)}, which were signed: it was cut off; the "
                    "events are those that were sealed"
                    if agrees
                    else f"the events at {where(first, last)} are not those that "
                    f"{each.source or 'a signed checkpoint'} has sealed: the tail was replaced, or an older backup was "
                    "restored and went on from there"
                )
                self._findings.append(finding("seal" if agrees else "replaced", first, last, 0, what))

    def end(self, *, more: bool) -> list[Finding]:
        """Return what was found; `more`: there are events behind the last sealed one."""
        self._close(None)
        for each in self._waiting:
            size, position = each.checkpoint.size, each.checkpoint.position
            self._findings.append(
                finding(
                    "restored" if each.source else "truncated",
                    self.last + 1,
                    position,
                    max(0, size - self._held.size),
                    f"the log ends at position {self.last}, and {each.source or 'a signed checkpoint'} has sealed "
                    f"{size} events up to position {position}: an older backup was restored, or the end was cut off",
                )
            )
        moves = sorted({(min(pair), max(pair)) for pair in self._samples.moves()})
        found = [finding("reordered", *pair, 1, _moved(*pair)) for pair in moves]
        told = {position for pair in moves for position in pair}
        found += [
            self._say(run, more=more)
            for run in self._runs
            if run.mark == "seal" or sum(run.first <= each <= run.last for each in told) < run.events
        ]
        return sorted(found + self._findings, key=lambda each: each.first_position)

    def _say(self, run: Run, *, more: bool) -> Finding:
        place, events = where(run.first, run.last), f"{run.events} event{'' if run.events == 1 else 's'}"
        at_end = run.last_index == self._held.size - 1
        if run.mark == "deleted" and at_end and not more:
            what = f"the log ends before {place}; sealed there, and gone: {events}"
            return finding("truncated", run.first, run.last, run.events, what)
        if at_end and (run.mark == "deleted" or (run.mark == "changed" and run.events > 1)):
            what = f"the tail was replaced: {events} sealed at {place}, which are gone, and others follow"
            return finding("replaced", run.first, run.last, run.events, what)
        what = {
            "changed": f"{events} at {place}: not what was sealed",
            "deleted": f"{events} at {place}: gone, and the log does not say that they were pruned",
            "inserted": f"{events} at {place}: no event was sealed there, and what lies behind was",
            "seal": f"the tile of {place} beside the log {run.what}",
        }[run.mark]
        return finding(run.mark, run.first, run.last, run.events, what)


def _moved(position: int, other: int) -> str:
    return f"the event that was sealed at one of the positions {position} and {other} stands at the other"


def _behind(run: Run, checkpoint: Checkpoint) -> bool:
    """Tell whether something was seen behind what a checkpoint has sealed."""
    return run.first > checkpoint.position if run.first_index < 0 else run.first_index >= checkpoint.size
