"""Verifying: the whole log, or what lies behind a position, against its hashes and the signatures under them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ensue.errors import NotSealed, SealError
from ensue.history.errands import Ask, Errand
from ensue.log import Log, Steps
from ensue.seals import stored
from ensue.seals.chunks import TILES, Part, Prunes, read_part
from ensue.seals.findings import Finding, Verified, finding
from ensue.seals.leaves import Fields, read_fields
from ensue.seals.sealing import checkpoint_rows
from ensue.seals.stored import Leaves, Progress
from ensue.seals.targets import Party, witnessed
from ensue.seals.tree import full_subtrees, root_of, subtree
from ensue.seals.verifier import (
    HASH,
    TILE,
    Checkpoint,
    Frontier,
    Untrue,
    exported_checkpoints,
    exported_tiles,
    read_checkpoint,
    read_key,
)
from ensue.seals.walking import Signed, Walk

Tell = Callable[[int, int], None]
"""Is told how many leaves have been looked at, and of how many."""
_ALL = 2**62
_SHOWN = 1000
"""How many findings are told one by one."""
_LEVELS = 8
_CHECKPOINTS = 1000
"""Checkpoints that are read at once."""


@dataclass(frozen=True)
class Evidence:
    """What somebody has kept outside of the database: checkpoints, and perhaps the hashes under them."""

    checkpoints: tuple[Signed, ...]
    folder: Path | None = None

    @property
    def size(self) -> int:
        """How many leaves are known by their hashes."""
        return self.checkpoints[-1].checkpoint.size if self.folder is not None else 0

    def tiles(self) -> Iterator[bytes]:
        """Yield the hashes, 256 at a time."""
        if self.folder is not None:
            yield from exported_tiles(self.folder, [each.checkpoint for each in self.checkpoints])


def evidence(source: str | Path | Party, keys: Sequence[str]) -> Evidence:
    """Read a checkpoint from a file or from another party's log, or all that an export has from a folder.

    Raises `SealError` if it cannot be read, or is not what the key has signed: then it is no evidence.
    """
    try:
        if not isinstance(source, (str, Path)):
            return _witness(source, keys)
        path = Path(source)
        if path.is_dir():
            found = exported_checkpoints(path, keys)
            for _ in exported_tiles(path, found):
                pass
            return Evidence(tuple(Signed(each, str(source)) for each in found), path)
        return Evidence((Signed(read_checkpoint(path.read_text("utf-8"), keys), str(source)),))
    except (OSError, UnicodeDecodeError) as error:
        raise SealError(f"{source} cannot be read: {error}") from error
    except Untrue as error:
        raise SealError(f"{source} proves nothing: {error}") from None


def _witness(party: Party, keys: Sequence[str]) -> Evidence:
    """Return the last checkpoint that another party has recorded, of whoever the keys belong to."""
    found = [
        Signed(read_checkpoint(note, keys), f"the log of {party.name}")
        for origin in sorted({read_key(each)[0] for each in keys})
        for note in party.log.own.run(witnessed(party.log, origin))
    ]
    if not found:
        raise SealError(f"the log of {party.name} has no checkpoint of this log")
    return Evidence(tuple(found))


def verify(
    log: Log,
    keys: Sequence[str],
    kept: Sequence[Evidence] = (),
    since: int | datetime | None = None,
    tell: Tell | None = None,
) -> Errand[Verified]:
    """Compare the log with its seal; return what is not as it was sealed.

    It reads part by part, each at one moment, and keeps nobody from writing; memory stays the same for any log. Raises
    `NotSealed` if nothing has been sealed and nothing is given that says otherwise.
    """
    first: int | None = (yield Ask(log, log.position_at(since))) if isinstance(since, datetime) else since
    start: _Start = yield Ask(log, log.at_one_moment(_begin(log, keys, first)))
    outside = [each for one in kept for each in one.checkpoints]
    if not (outside or start.signed or start.findings):
        what = "nothing has been signed" if start.size else "nothing has been sealed"
        raise NotSealed(f"{what} yet: ensue seal, or app.seal(…) and a worker. If it was, checkpoints are gone")
    _one_origin([*start.signed, *outside])
    frontier = start.frontier.copy()
    usable = [each for each in (*start.signed, *outside) if each.checkpoint.size > frontier.size]
    prunes = Prunes()
    walk = Walk(usable, frontier, start.behind, lambda position: position in prunes.positions)
    best = max(kept, key=lambda one: one.size, default=None)
    theirs = best.tiles() if best is not None and best.size else iter(())
    for _ in range(start.first):
        next(theirs, b"")
    number, behind = start.first, start.behind
    while number < start.tiles:
        after = min(number + TILES, start.tiles)
        steps = read_part(log, number, after, start.size, behind, start.position, prunes)
        part: Part = yield Ask(log, log.at_one_moment(steps))
        walk.take(part, {each: found for each in range(number, after) if (found := next(theirs, b""))})
        number, behind = after, part.until
        if tell is not None:
            tell(min(number * TILE, start.size), start.size)
    more = yield from _behind(log, walk, behind)
    upper: list[Finding] = yield Ask(log, _check_levels(log, start.size))
    findings = [*start.findings, *upper, *walk.end(more=more > 0)]
    told = [each.checkpoint for each in (*start.signed, *outside)]
    return Verified(
        origin=told[-1].origin if told else "",
        size=start.size,
        position=start.position,
        since=start.behind,
        checked=walk.checked,
        pruned=walk.gone,
        unsealed=more,
        checkpoints=walk.compared,
        outside=len(outside),
        findings=tuple(findings[:_SHOWN]),
        more=max(0, len(findings) - _SHOWN),
    )


def _one_origin(signed: Sequence[Signed]) -> None:
    origins = {each.checkpoint.origin for each in signed}
    if len(origins) > 1:
        raise SealError(f"these checkpoints are of different logs: {', '.join(sorted(origins))}")


# --- the beginning


@dataclass(frozen=True)
class _Start:
    size: int
    position: int
    first: int
    """The first tile to look at."""
    behind: int
    """The position of the last event before it."""
    frontier: Frontier
    """The tree before it."""
    signed: list[Signed]
    findings: list[Finding]

    @property
    def tiles(self) -> int:
        return (self.size + TILE - 1) // TILE


def _begin(log: Log, keys: Sequence[str], since: int | None) -> Steps[_Start]:
    now = yield from stored.progress(log)
    last = yield from stored.last_leaves(log)
    findings: list[Finding] = []
    size, position = _size(now, last, findings)
    signed = yield from _signed(log, keys, findings)
    first, behind = 0, 0
    if since is not None:
        tile = yield from stored.leaves_at(log, max(1, since))
        first = 0 if tile is None else tile.number
    frontier = Frontier()
    if first:
        before = yield from stored.leaves(log, first - 1, first)
        behind = before[0].last_position if before else 0
        try:
            for height, leaf in full_subtrees(first * TILE):
                frontier.add((yield from stored.answer(log, subtree(leaf, leaf + (1 << height)))), height)
        except Untrue as error:
            raise SealError(f"the tree beside the log is damaged: {error}; verify all of it, without --since") from None
    return _Start(size, position, first, behind, frontier, signed, findings)


def _size(now: Progress | None, last: Leaves | None, findings: list[Finding]) -> tuple[int, int]:
    """Return how many leaves there are, and the last position: the tiles say so, or the row that counts them."""
    if last is None:
        if now is not None and now.size:
            what = f"the tree beside the log is gone: it had {now.size} leaves, up to position {now.position}"
            findings.append(finding("seal", 1, now.position, 0, what))
        return 0, 0
    whole = len(last.positions) == len(last) and len(last.hashes) % HASH == 0 and last.last_position == last.ends_at
    size, position = last.first_index + len(last), last.last_position
    if now is not None and (now.size, now.position) == (size, position):
        return size, position
    if whole or now is None:
        what = (
            f"the row that counts the leaves says {now.size if now else 'nothing'}, up to position "
            f"{now.position if now else '?'}: there are {size}, up to position {position}"
        )
        findings.append(finding("seal", position, position, 0, what))
        return size, position
    return now.size, now.position


def _signed(log: Log, keys: Sequence[str], findings: list[Finding]) -> Steps[list[Signed]]:
    """Return the checkpoints that are signed, without their notes: there may be many."""
    found: list[Signed] = []
    after = -1
    while rows := (yield from checkpoint_rows(log, after, _CHECKPOINTS)):
        for size, position, note in rows:
            try:
                checkpoint: Checkpoint = read_checkpoint(note, keys)
                if (checkpoint.size, checkpoint.position) != (size, position):
                    raise Untrue(f"it is the one of {checkpoint.size} leaves, up to position {checkpoint.position}")
            except Untrue as error:
                what = f"the checkpoint of {size} leaves, up to position {position}, proves nothing: {error}"
                findings.append(finding("seal", position, position, 0, what))
            else:
                found.append(Signed(checkpoint._replace(note=""), ""))
        after = rows[-1][0]
    return found


# --- the end


def _behind(log: Log, walk: Walk, behind: int) -> Errand[int]:
    """Go on behind the tree as far as checkpoints have sealed more; return how many events have not been sealed."""
    behind = max(behind, walk.last)
    while walk.waiting:
        events: list[Fields] = yield Ask(log, _events_behind(log, behind))
        if not events:
            break
        walk.go_on(events[: walk.waiting[-1].checkpoint.size - walk.size])
        behind = walk.last
    more: int = yield Ask(log, _count_behind(log, behind))
    return more


def _events_behind(log: Log, behind: int) -> Steps[list[Fields]]:
    return (yield from read_fields(log.dialect, behind, (yield from log.horizon()), 1000))


def _count_behind(log: Log, behind: int) -> Steps[int]:
    head = yield from log.horizon()
    found: int = (yield log.dialect.sql["count_all"](after=behind, until=head, most=_ALL))[0][0]
    return found


def _check_levels(log: Log, size: int) -> Steps[list[Finding]]:
    """Compare each level of the tree from the second on with the one below it."""
    findings: list[Finding] = []
    for level in range(1, _LEVELS):
        full = size // TILE**level // TILE
        for number in range(full):
            found = (yield from stored.tiles(log, level, number, number + 1)).get(number, b"")
            above = (yield from stored.tiles(log, level + 1, number // TILE, number // TILE + 1)).get(
                number // TILE, b""
            )
            at = number % TILE * HASH
            if len(found) != HASH * TILE or above[at : at + HASH] != root_of(found):
                what = f"tile {number} of level {level} beside the log has another root than level {level + 1} says"
                findings.append(finding("seal", 1, size, 0, what))
        if not full:
            break
    return findings
