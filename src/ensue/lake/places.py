"""Where tables of plain files lie: a folder, or a part of a bucket in object storage.

Both can put a file in place under a name that only one process gets: a folder by a hard link, object storage by a
conditional put (`If-None-Match: *`, or what Google and Azure have for it).
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from ensue.errors import LakeError
from ensue.lake.libraries import datasets, filesystems, library

_STALE = timedelta(hours=1)
"""What no commit names is left over after so long: a commit takes minutes at most."""


class Place(Protocol):
    """What a table of plain files needs of where it lies; names are paths in it, with slashes."""

    def read(self, name: str) -> bytes | None:
        """Return what a file holds; None if it is not there."""
        ...

    def create(self, name: str, data: bytes) -> bool:
        """Put a file in place, whole; return False if there is one of that name."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Put a file in place under a name that nobody else uses."""
        ...

    def delete(self, name: str) -> None: ...

    def size(self, name: str) -> int: ...

    def left_over(self, suffix: str, named: dict[str, None]) -> Iterator[str]:
        """Return the files that are not named and that no running commit has written."""
        ...

    @contextmanager
    def alone(self) -> Generator[None]:
        """Keep others from writing, where that can be had."""
        ...

    def open(self, names: Sequence[str], make: Callable[[Any, str], Any], *, threads: bool) -> Any:
        """Return the dataset that is made, given the file system for Arrow and where in it the place is.

        `threads`: its files are read by several threads of Arrow that wait for each other.
        """
        ...


class Folder:
    """A folder on this machine, or one that is mounted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, name: str) -> bytes | None:
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None

    def create(self, name: str, data: bytes) -> bool:
        path = self._folder / name
        temporary = path.parent / f".{uuid4().hex}"
        self._write(temporary, data)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        return True

    def write(self, name: str, data: bytes) -> None:
        self._write(self._folder / name, data)

    def delete(self, name: str) -> None:
        (self._folder / name).unlink(missing_ok=True)

    def size(self, name: str) -> int:
        return (self._folder / name).stat().st_size

    def left_over(self, suffix: str, named: dict[str, None]) -> Iterator[str]:
        for path in self._folder.rglob(f"*.{suffix}"):
            if (name := path.relative_to(self._folder).as_posix()) not in named:
                yield name

    @contextmanager
    def alone(self) -> Generator[None]:
        """Keep all others from writing; the lock of a process that dies is let go by the system."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / ".lock").open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def open(self, names: Sequence[str], make: Callable[[Any, str], Any], *, threads: bool) -> Any:
        return make(filesystems.LocalFileSystem(), str(self._folder))

    def _write(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


class Bucket:
    """A part of a bucket, by its URL: `s3://bucket/lake/events`, `gs://…`, `abfss://container@account…`."""

    def __init__(self, url: str) -> None:
        self._scheme, _, self._path = url.partition("://")
        self._objects: Any = library("obstore", "lake")
        self._failures: Any = library("obstore.exceptions", "lake")
        try:
            self._store = library("obstore.store", "lake").from_url(url)
        except (ValueError, self._failures.BaseError) as error:
            raise LakeError(f"{url} is no object storage that can be reached: {error}") from error

    def read(self, name: str) -> bytes | None:
        try:
            return bytes(self._objects.get(self._store, name).bytes())
        except (FileNotFoundError, self._failures.NotFoundError):
            return None

    def create(self, name: str, data: bytes) -> bool:
        try:
            self._objects.put(self._store, name, data, mode="create", use_multipart=False)
        except self._failures.AlreadyExistsError:
            return False
        except self._failures.NotSupportedError as error:
            raise LakeError(
                f"{name}: this storage cannot put a file in place under the condition that there is none, and two "
                "collectors could not be told apart: use delta or iceberg there"
            ) from error
        return True

    def write(self, name: str, data: bytes) -> None:
        self._objects.put(self._store, name, data)

    def delete(self, name: str) -> None:
        self._objects.delete(self._store, name)

    def size(self, name: str) -> int:
        return int(self._objects.head(self._store, name)["size"])

    def left_over(self, suffix: str, named: dict[str, None]) -> Iterator[str]:
        before = datetime.now(UTC) - _STALE
        for part in self._objects.list(self._store):
            for each in part:
                if each["path"].endswith(f".{suffix}") and each["path"] not in named and each["last_modified"] < before:
                    yield each["path"]

    def folders(self) -> set[str]:
        """Return the names of what has files below it."""
        found = self._objects.list_with_delimiter(self._store)["common_prefixes"]
        return {str(each).rpartition("/")[2] for each in found}

    @contextmanager
    def alone(self) -> Generator[None]:
        """Do nothing: who is overtaken notices when it commits."""
        yield

    def open(self, names: Sequence[str], make: Callable[[Any, str], Any], *, threads: bool) -> Any:
        """As of `Place`; what Arrow would read in threads is in memory: they would wait for Python, and it for them."""
        if not threads:
            made: Any = library("obstore.fsspec", "lake").FsspecStore(self._scheme, skip_instance_cache=True)
            return make(filesystems.PyFileSystem(filesystems.FSSpecHandler(made)), self._path)
        with tempfile.TemporaryDirectory() as folder:
            copy = Folder(Path(folder))
            for name in names:
                copy.write(name, self.read(name) or b"")
            return datasets.dataset(copy.open(names, make, threads=True).to_table())
