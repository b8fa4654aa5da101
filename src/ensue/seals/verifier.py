"""Checks seals without ensue and without a database: one file, to be read, copied and run by an auditor.

    python verifier.py proof PROOF.json --key KEY        an event is in the log that a checkpoint has sealed
    python verifier.py consistency PROOF.json --key KEY  a newer checkpoint has grown out of an older one
    python verifier.py history FOLDER --key KEY          every hash of an export, against its signed checkpoints
        [--events EVENTS.jsonl]                          and every event of the log, against those hashes

It needs Python 3.11 and, for the signatures, the package `cryptography`. The exit code is 0 if all is as it was sealed,
1 if something is not, 2 if that cannot be told. Hashes, proofs and trees are those of RFC 6962 and RFC 9162, section
2.1; checkpoints and keys those of C2SP signed-note and tlog-checkpoint, tiles those of C2SP tlog-tiles. What an event's
leaf is made of is said at `entry_of`.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

FIELDS = (
    "position",
    "id",
    "type",
    "kind",
    "stream",
    "version",
    "key",
    "data",
    "metadata",
    "correlation_id",
    "causation_id",
    "recorded_at",
)
TAG = "ensue.event/1"
PRUNED = "ensue.events-pruned"
"""The type of the events that say what was pruned."""
TILE = 256
"""Hashes in a full tile."""
HASH = 32
"""Bytes of a hash."""


class Untrue(Exception):
    """What is claimed does not hold."""


# --- hashes (RFC 6962, section 2.1)


def leaf_hash(entry: bytes) -> bytes:
    return sha256(b"\0" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\1" + left + right).digest()


def entry_of(event: Mapping[str, Any]) -> bytes:
    """Return what is hashed of an event: the JSON (RFC 8785) of an array of the tag and its twelve fields.

    `data` and `metadata` are the stored text, as one JSON string each. In PostgreSQL `recorded_at` is in UTC with six
    digits behind the second and a Z. What is no text, number or null in the database is an object: {"blob": hex},
    {"text": hex} for text that is not UTF-8, {"real": hex of its eight bytes, the first one first}.
    """
    values = [TAG, *(event[name] for name in FIELDS)]
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()


class Frontier:
    """The right edge of a growing tree: what its root is made of."""

    def __init__(self) -> None:
        self.size = 0
        self._nodes: list[tuple[int, bytes]] = []

    def add(self, hash: bytes, height: int = 0) -> None:
        """Append a leaf, or the root of a full subtree of that height where one begins."""
        self.size += 1 << height
        while self._nodes and self._nodes[-1][0] == height:
            hash = node_hash(self._nodes.pop()[1], hash)
            height += 1
        self._nodes.append((height, hash))

    def root(self) -> bytes:
        if not self._nodes:
            return sha256(b"").digest()
        hash = self._nodes[-1][1]
        for _, left in reversed(self._nodes[:-1]):
            hash = node_hash(left, hash)
        return hash

    def copy(self) -> Frontier:
        made = Frontier()
        made.size, made._nodes = self.size, list(self._nodes)
        return made


# --- proofs (RFC 9162, sections 2.1.3.2 and 2.1.4.2)


def root_by_inclusion(index: int, size: int, leaf: bytes, path: Sequence[bytes]) -> bytes:
    """Return the root of the tree of that size in which the leaf has that index, if the path is right."""
    if not 0 <= index < size:
        raise Untrue(f"a tree of {size} leaves has none with the index {index}")
    place, last, root = index, size - 1, leaf
    for hash in path:
        if not last:
            raise Untrue("the path is too long")
        if place & 1 or place == last:
            root = node_hash(hash, root)
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            root = node_hash(root, hash)
        place, last = place >> 1, last >> 1
    if last:
        raise Untrue("the path is too short")
    return root


def check_consistency(old_size: int, old: bytes, new_size: int, new: bytes, path: Sequence[bytes]) -> None:
    """Raise `Untrue` unless the path shows that the newer tree begins with the leaves of the older one."""
    if not 0 < old_size <= new_size:
        raise Untrue(f"a tree of {new_size} leaves does not grow out of one of {old_size}")
    if old_size == new_size:
        if path or old != new:
            raise Untrue("two trees of one size are one tree, and these have different roots")
        return
    nodes = [old, *path] if old_size & (old_size - 1) == 0 else list(path)
    place, last = old_size - 1, new_size - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    if not nodes:
        raise Untrue("the path is empty")
    first = second = nodes[0]
    for hash in nodes[1:]:
        if not last:
            raise Untrue("the path is too long")
        if place & 1 or place == last:
            first, second = node_hash(hash, first), node_hash(hash, second)
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            second = node_hash(second, hash)
        place, last = place >> 1, last >> 1
    if last or first != old or second != new:
        raise Untrue("the newer checkpoint has not grown out of the older one: history was rewritten between them")


# --- checkpoints (C2SP signed-note, tlog-checkpoint)


class Checkpoint(NamedTuple):
    origin: str
    size: int
    """How many leaves."""
    root: bytes
    position: int
    """The position of the last event in it."""
    sealed_at: str
    note: str


def key_id(name: str, key: bytes) -> bytes:
    return sha256(name.encode() + b"\n" + key).digest()[:4]


def read_key(text: str) -> tuple[str, bytes, bytes]:
    """Return the name, the id and the 32 bytes of a public key, `name+id+base64`."""
    name, _, rest = text.strip().partition("+")
    id, _, key = rest.partition("+")
    try:
        raw = base64.b64decode(key, validate=True)
        if not name or raw[:1] != b"\1" or len(raw) != HASH + 1 or bytes.fromhex(id) != key_id(name, raw):
            raise ValueError("its parts do not fit")
    except ValueError as error:
        raise Untrue(f"{text.strip()[:80]!r} is no public key, name+id+base64 of Ed25519: {error}") from None
    return name, bytes.fromhex(id), raw[1:]


def open_note(note: str, keys: Sequence[str]) -> str:
    """Return the text of a note that is signed with one of the keys; raise `Untrue` if it is not."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    text, gap, signatures = note.rpartition("\n\n")
    known = {(name, id): key for name, id, key in map(read_key, keys)}
    for line in signatures.splitlines() if gap else ():
        dash, _, rest = line.partition(" ")
        name, _, coded = rest.partition(" ")
        try:
            raw = base64.b64decode(coded, validate=True)
        except ValueError:
            continue
        key = known.get((name, raw[:4]))
        if dash == "—" and key is not None:
            try:
                Ed25519PublicKey.from_public_bytes(key).verify(raw[4:], (text + "\n").encode())
            except InvalidSignature:
                raise Untrue(f"the signature of {name} does not fit the text: one of them was altered") from None
            return text + "\n"
    raise Untrue(
        f"it is not signed with a key that is trusted ({', '.join(name for name, _ in known) or 'there is none'})"
    )


def read_checkpoint(note: str, keys: Sequence[str]) -> Checkpoint:
    """Return what a signed checkpoint says; raise `Untrue` if it is not signed with one of the keys."""
    lines = open_note(note, keys).splitlines()
    more = {word: rest for word, _, rest in (line.partition(" ") for line in lines[3:])}
    try:
        root = base64.b64decode(lines[2], validate=True)
        return Checkpoint(lines[0], int(lines[1]), root, int(more["position"]), more["sealed"], note)
    except (IndexError, KeyError, ValueError) as error:
        raise Untrue(f"it is no checkpoint of a seal: {error!r}") from None


# --- an export: a folder of checkpoints and tiles (C2SP tlog-tiles)


def tile_path(level: int, number: int, width: int = TILE) -> str:
    """Return where a tile lies; one that is not full yet is named by its width too."""
    parts = [f"{number % 1000:03}"]
    while number := number // 1000:
        parts.insert(0, f"x{number % 1000:03}")
    return f"tile/{level}/{'/'.join(parts)}" + (f".p/{width}" if width < TILE else "")


def exported_checkpoints(folder: Path, keys: Sequence[str]) -> list[Checkpoint]:
    """Return all checkpoints of an export, the oldest first; raise `Untrue` for one that is not as it was signed."""
    found: list[Checkpoint] = []
    for file in sorted(folder.glob("checkpoints/*"), key=lambda file: int(file.name)):
        try:
            found.append(read_checkpoint(file.read_text("utf-8"), keys))
        except Untrue as error:
            raise Untrue(f"{file}: {error}") from None
    if not found:
        raise Untrue(f"{folder} holds no checkpoint")
    if len({each.origin for each in found}) > 1:
        raise Untrue(f"{folder} holds checkpoints of different logs")
    return found


def exported_tiles(folder: Path, checkpoints: Sequence[Checkpoint]) -> Iterator[bytes]:
    """Yield the leaf hashes of an export, 256 at a time; raise `Untrue` where a checkpoint's root is not theirs."""
    frontier, before = Frontier(), 0
    waiting = list(checkpoints)
    size = waiting[-1].size
    for number in range((size + TILE - 1) // TILE):
        file = folder / tile_path(0, number, min(TILE, size - number * TILE))
        hashes = file.read_bytes() if file.is_file() else b""
        if len(hashes) != HASH * min(TILE, size - number * TILE):
            raise Untrue(f"{file} is missing, or is not as long as it should be")
        for start in range(0, len(hashes), HASH):
            frontier.add(hashes[start : start + HASH])
            while waiting and waiting[0].size == frontier.size:
                if frontier.root() != waiting[0].root:
                    raise Untrue(
                        f"the exported hashes are not those of the checkpoint at position {waiting[0].position}: "
                        f"some behind position {before} were altered"
                    )
                before = waiting.pop(0).position
        yield hashes


# --- events, against the hashes of an export


class Fault(NamedTuple):
    position: int
    what: str


def check_events(lines: Iterable[str], tiles: Iterable[bytes], size: int) -> Iterator[Fault]:
    """Compare exported events, one JSON object a line in the order of the log, with the hashes that were sealed.

    A line has the index of its leaf, null for an event that is in no leaf. Of an event that is gone there is its index,
    its position and "gone": true; that is no fault if an event of the type "ensue.events-pruned" tells of it.
    """
    leaves = (tile[at : at + HASH] for tile in tiles for at in range(0, len(tile), HASH))
    gone: list[int] = []
    pruned: list[list[int]] = []
    expected, position = 0, 0
    for line in lines:
        event = json.loads(line)
        index = event["index"]
        if index is None or index < expected:
            yield Fault(event["position"], "inserted: no sealed event stands there")
            continue
        for missing in range(expected, min(index, size)):
            next(leaves)
            yield Fault(position, f"deleted: the event of leaf {missing}, behind this position, is missing")
        if index >= size:
            break
        expected, leaf = index + 1, next(leaves)
        if event["position"] <= position:
            yield Fault(event["position"], f"reordered: it stands behind position {position}")
        position = event["position"]
        if event.get("gone"):
            gone.append(position)
        elif leaf_hash(entry_of(event)) != leaf:
            yield Fault(position, "changed: the event is not the one that was sealed")
        elif event["type"] == PRUNED:
            pruned += json.loads(event["data"])["positions"]
    if expected < size:
        yield Fault(position, f"truncated: the {size - expected} sealed events behind this position are missing")
    pruned.sort()
    for each in gone:
        before = bisect_right(pruned, [each, sys.maxsize]) - 1
        if before < 0 or pruned[before][1] < each:
            yield Fault(each, "deleted: the event is gone, and no sealed event says that it was pruned")


# --- the command line


def _proof(file: Path, keys: Sequence[str]) -> str:
    proof = json.loads(file.read_text("utf-8"))
    checkpoint = read_checkpoint(proof["checkpoint"], keys)
    event, path = proof["event"], [base64.b64decode(each) for each in proof["path"]]
    leaf = bytes.fromhex(proof["leaf"])
    if event is not None and leaf_hash(entry_of(event)) != leaf:
        raise Untrue(f"the event at position {event['position']} is not the one that was sealed")
    if root_by_inclusion(proof["index"], checkpoint.size, leaf, path) != checkpoint.root:
        raise Untrue(f"leaf {proof['index']} is not in the tree of the checkpoint")
    what = f"event {event['id']} at position {event['position']}" if event else f"leaf {leaf.hex()}"
    return f"{what} is in {checkpoint.origin}, sealed at {checkpoint.sealed_at}"


def _consistency(file: Path, keys: Sequence[str]) -> str:
    proof = json.loads(file.read_text("utf-8"))
    old, new = read_checkpoint(proof["old"], keys), read_checkpoint(proof["new"], keys)
    if old.origin != new.origin:
        raise Untrue(f"{old.origin} and {new.origin} are two logs")
    check_consistency(old.size, old.root, new.size, new.root, [base64.b64decode(each) for each in proof["path"]])
    return f"{new.origin}: all {old.size} events up to position {old.position} are still the same at {new.sealed_at}"


def _history(folder: Path, events: Path | None, keys: Sequence[str]) -> list[str]:
    checkpoints = exported_checkpoints(folder, keys)
    tiles = exported_tiles(folder, checkpoints)
    if events is None:
        for _ in tiles:
            pass
        return []
    with events.open(encoding="utf-8") as lines:
        return [f"position {each.position}: {each.what}" for each in check_events(lines, tiles, checkpoints[-1].size)]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Checks seals of ensue, without ensue.")
    parser.add_argument("what", choices=["proof", "consistency", "history"])
    parser.add_argument("path", type=Path, help="a proof, or the folder of an export")
    parser.add_argument("--key", action="append", required=True, help="the public key, or a file that holds it")
    parser.add_argument("--events", type=Path, help="events that ensue seal --events has written")
    asked = parser.parse_args(arguments)
    try:
        keys = [Path(each).read_text("utf-8") if Path(each).is_file() else each for each in asked.key]
        if asked.what == "history":
            faults = _history(asked.path, asked.events, keys)
        else:
            faults = []
            print((_proof if asked.what == "proof" else _consistency)(asked.path, keys))
    except Untrue as error:
        faults = [str(error)]
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        print(f"cannot be checked: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    for fault in faults:
        print(fault)
    print("NOT as it was sealed" if faults else "as it was sealed")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
