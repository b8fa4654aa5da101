"""Where checkpoints are taken, so that who holds the database cannot take them back."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import msgspec

from ensue.errors import DeclarationError, SealBroken, SealError
from ensue.events import Event, IntegrationEvent, Receipt
from ensue.log import Log, Selection, Steps, SyncConnection, Transaction
from ensue.seals import stored
from ensue.seals.sealing import checkpoints, last_checkpoint
from ensue.seals.tree import TileName, subtree
from ensue.seals.verifier import TILE, Checkpoint, Untrue, read_checkpoint, tile_path

_OURS = ("checkpoint", "checkpoints", "tile")
_PATIENCE = 300.0
"""Seconds after which Git is given up."""
_TILES = 64
"""Tiles that are in memory at once."""


class CheckpointSealed(IntegrationEvent, version=1, name="ensue.checkpoint-sealed", key="origin", service="ensue"):
    """Another log has been sealed: its checkpoint, kept where its holder cannot change it."""

    origin: str
    size: int
    position: int
    note: str
    """The signed checkpoint, as `ensue verify --checkpoint` reads it."""


class Party(Protocol):
    """An application with a log of its own."""

    @property
    def name(self) -> str: ...

    @property
    def log(self) -> Log: ...

    def transaction(self) -> Transaction: ...

    def record(self, event: Event, /, *, via: SyncConnection, dedupe: str | None = None) -> Receipt: ...


class Target(Protocol):
    """A place for checkpoints."""

    def take(self, log: Log, trusted: tuple[str, ...]) -> int:
        """Take there what it does not have; return how many checkpoints. Raises `SealError`."""
        ...


class Store(Protocol):
    """Keeps files."""

    where: str

    def read(self, path: str) -> bytes | None:
        """Return a file, None if there is none."""
        ...

    def write(self, path: str, contents: bytes) -> None: ...

    def close(self, message: str) -> None:
        """Say that all that belongs together has been written."""
        ...


def target(given: str | Path | Party) -> Target:
    """Return the place that is meant: a folder, `git:FOLDER`, a URL that fsspec knows, or another application.

    Raises `DeclarationError` for what is none.
    """
    if isinstance(given, Path):
        return Files(Folder(given))
    if isinstance(given, str):
        if not given.strip():
            raise DeclarationError("seal(to=…): the name of a place is empty")
        if given.startswith("git:"):
            return Files(Git(Path(given.removeprefix("git:"))))
        return Files(Objects(given) if "://" in given else Folder(Path(given)))
    if not isinstance(getattr(given, "log", None), Log):
        raise DeclarationError(f"seal(to={given!r}): a folder, git:FOLDER, a URL, or an App")
    return Witness(given)


# --- files


class Files:
    """Files in the layout of C2SP tlog-tiles: they are added and never changed, but for `checkpoint`, the last one."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def take(self, log: Log, trusted: tuple[str, ...]) -> int:
        """Take there what it does not have; raise `SealBroken` if what it has is not of this history."""
        store = self._store
        try:
            held = store.read("checkpoint")
            before = None if held is None else _known(held.decode("utf-8", "replace"), trusted, store.where)
            new = log.own.run(checkpoints(log, trusted, 0 if before is None else before.size))
            if before is not None:
                log.own.run(_still(log, before, store.where))
            if new:
                for path, hashes in _tiles(log, 0 if before is None else before.size, new[-1].size):
                    store.write(path, hashes)
                for each in new:
                    store.write(f"checkpoints/{each.size}", each.note.encode())
                store.write("checkpoint", new[-1].note.encode())
            if last := new[-1] if new else before:  # what was broken off before its end is finished too
                store.close(f"Seal of {last.origin}: {last.size} events, up to position {last.position}")
        except OSError as error:
            raise SealError(f"the seal cannot be taken to {store.where}: {error}") from error
        return len(new)


def _known(note: str, trusted: tuple[str, ...], where: str) -> Checkpoint:
    try:
        return read_checkpoint(note, trusted)
    except Untrue as error:
        raise SealBroken(f"{where} holds a checkpoint of somebody else, or one that was altered: {error}") from None


def _still(log: Log, before: Checkpoint, where: str) -> Steps[None]:
    """Raise `SealBroken` unless the log's tree begins with that of a checkpoint."""
    now = yield from stored.progress(log)
    size = 0 if now is None else now.size
    try:
        if size < before.size:
            raise Untrue(f"it has {size} leaves, the checkpoint there has {before.size}: an older backup was restored")
        if (yield from stored.answer(log, subtree(0, before.size))) != before.root:
            raise Untrue("the history that it was made of was rewritten")
    except Untrue as error:
        raise SealBroken(
            f"the log no longer is what the checkpoint at position {before.position} in {where} has sealed: {error}. "
            f"Nothing was taken there; `ensue verify --checkpoint {where}` tells what differs"
        ) from None


def _tiles(log: Log, before: int, size: int) -> Iterator[tuple[str, bytes]]:
    """Yield paths and hashes of the tiles that a tree of that size has, and the one before did not have."""
    level = 0
    while size:
        first, after = before // TILE, (size + TILE - 1) // TILE
        for start in range(first, after, _TILES):
            found = log.own.run(stored.tiles(log, level, start, min(after, start + _TILES)))
            for number in range(start, min(after, start + _TILES)):
                width = min(TILE, size - number * TILE)
                hashes = found.get(number, b"")[: width * 32]
                if len(hashes) < width * 32:
                    raise SealBroken(
                        f"the tree of the seal lacks hashes: {TileName(level, number)}. See `ensue verify`"
                    )
                yield tile_path(level, number, width), hashes
        level, before, size = level + 1, before // TILE, size // TILE


class Folder:
    """A folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.where = str(folder)

    def read(self, path: str) -> bytes | None:
        file = self.folder / path
        return file.read_bytes() if file.is_file() else None

    def write(self, path: str, contents: bytes) -> None:
        """Write a file at once, or not at all."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(dir=file.parent, prefix=".")
        try:
            with os.fdopen(handle, "wb") as out:
                out.write(contents)
                out.flush()
                os.fsync(out.fileno())
            Path(draft).chmod(0o644)
            Path(draft).replace(file)
        except BaseException:
            with suppress(FileNotFoundError):
                Path(draft).unlink()
            raise

    def close(self, message: str) -> None:
        """Nothing: each file is complete."""


class Git(Folder):
    """A folder in a working tree of Git: what is new is committed, and pushed where the branch has an upstream."""

    def read(self, path: str) -> bytes | None:
        self._git("rev-parse", "--is-inside-work-tree")
        return super().read(path)

    def close(self, message: str) -> None:
        """Commit what is new, and push."""
        self._git("add", "--", *_OURS)
        if self._git("diff", "--cached", "--name-only", "--", *_OURS).strip():
            self._git("commit", "--quiet", "-m", message, "--", *_OURS)
        if self._git("for-each-ref", "--format=%(upstream)", self._git("symbolic-ref", "HEAD").strip()).strip():
            self._git("push", "--quiet")

    def _git(self, *words: str) -> str:
        try:
            done = subprocess.run(  # noqa: S603 its words are ours
                ["git", "-C", str(self.folder), *words],  # noqa: S607 wherever it is installed
                capture_output=True,
                text=True,
                check=False,
                stdin=subprocess.DEVNULL,
                timeout=_PATIENCE,
            )
        except FileNotFoundError as error:
            raise SealError("the seal cannot be committed: git is not installed") from error
        except subprocess.TimeoutExpired as error:
            raise SealError(f"the seal cannot be committed in {self.where}: {error}") from error
        if done.returncode:
            raise SealError(f"the seal cannot be committed in {self.where}: git says: {done.stderr.strip()}")
        return done.stdout


class Objects:
    """Object storage, or whatever else fsspec has a driver for."""

    def __init__(self, url: str) -> None:
        self.where = url
        try:
            self._filesystem, self._root = import_module("fsspec").core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise DeclarationError(
                f"seal(to={url!r}): {error}; it needs fsspec and its driver for such a URL: pip install fsspec s3fs"
            ) from error

    def read(self, path: str) -> bytes | None:
        found: Any = None
        with self._told(), suppress(FileNotFoundError):
            found = self._filesystem.cat_file(f"{self._root}/{path}")
        return found if found is None else bytes(found)

    def write(self, path: str, contents: bytes) -> None:
        whole = f"{self._root}/{path}"
        with self._told():
            self._filesystem.makedirs(whole.rpartition("/")[0], exist_ok=True)
            self._filesystem.pipe_file(whole, contents)

    @contextmanager
    def _told(self) -> Generator[None]:
        """Say where it was; each storage has errors of its own."""
        try:
            yield
        except Exception as error:
            raise SealError(f"the seal cannot be taken to {self.where}: {error!r}") from error

    def close(self, message: str) -> None:
        """Nothing: each object is complete."""


# --- another party's log


class Witness:
    """The log of another application: the checkpoint becomes an integration event there."""

    def __init__(self, party: Party) -> None:
        self._party = party

    def take(self, log: Log, trusted: tuple[str, ...]) -> int:
        """Record the last checkpoint there, once."""
        try:
            return self._take(log, trusted)
        except SealError:
            raise
        except Exception as error:  # of their database, most likely; it is theirs to mend
            raise SealError(f"the seal cannot be taken to the log of {self._party.name}: {error}") from error

    def _take(self, log: Log, trusted: tuple[str, ...]) -> int:
        last = log.own.run(last_checkpoint(log))
        if last is None:
            return 0
        theirs = self._party.log
        for note in theirs.own.run(witnessed(theirs, _known(last[2], trusted, "the log").origin)):
            log.own.run(_still(log, _known(note, trusted, self._party.name), self._party.name))
        checkpoint = _known(last[2], trusted, "the log")
        event = CheckpointSealed(
            origin=checkpoint.origin, size=checkpoint.size, position=checkpoint.position, note=checkpoint.note
        )
        once = f"{event.__type__} {checkpoint.origin} {checkpoint.size}"
        with self._party.transaction() as connection:
            return int(not self._party.record(event, via=connection, dedupe=once).duplicate)


def witnessed(log: Log, origin: str, position: int = 0) -> Steps[list[str]]:
    """Return the last checkpoint of an origin that has been recorded in a log, if there is one."""
    note: list[str] = []
    while rows := (yield from log.read(Selection(after=position, types=(CheckpointSealed.__type__,), key=origin), 500)):
        note, position = [msgspec.json.decode(rows[-1].data)["note"]], rows[-1].position
    return note
