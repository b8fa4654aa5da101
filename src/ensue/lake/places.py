"""Where tables of plain files lie: a folder, or a part of a bucket in object storage.

Both can put a file in place under a name that only one process gets: a folder by a hard link, object storage by a
conditional put (`If-None-Match: *`, or what Google and Azure have for it). A storage that takes such a put and does not
heed its condition is found out and refused before anything is committed there.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit
from uuid import uuid4

from ensue.errors import LakeError
from ensue.lake.libraries import filesystems, library

_AZURE = ("az://", "abfss://")
_SKEW = timedelta(minutes=1)
"""By less than this the clocks of one storage's machines differ."""


class Place(Protocol):
    """What a table of plain files needs of where it lies; names are paths in it, with slashes."""

    def read(self, name: str) -> bytes | None:
        """Return what a file holds; None if it is not there."""
        ...

    def create(self, name: str, data: bytes) -> bool:
        """Put a file in place, whole, if there is none of that name; tell whether what is there then is this data.

        So a put whose answer was lost, and that is asked again, is still known as one's own, if nobody else has the
        same data to put there. An error means that it may be there, or come to be there.
        """
        ...

    def write(self, name: str, data: bytes) -> None:
        """Put a file in place under a name that nobody else uses."""
        ...

    def delete(self, name: str) -> None:
        """Delete a file if it is there."""
        ...

    def size(self, name: str) -> int: ...

    def files(self, suffix: str, entry: str) -> Iterator[tuple[str, bool]]:
        """Return the files there, each with whether it was surely written before an entry of the journal was put."""
        ...

    @contextmanager
    def alone(self) -> Generator[None]:
        """Keep others from writing, where that can be had."""
        ...

    def arrow(self) -> tuple[Any, str]:
        """Return the file system for Arrow, and where in it the place is."""
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
            return path.read_bytes() == data
        finally:
            temporary.unlink()
        return True

    def write(self, name: str, data: bytes) -> None:
        self._write(self._folder / name, data)

    def delete(self, name: str) -> None:
        (self._folder / name).unlink(missing_ok=True)

    def size(self, name: str) -> int:
        return (self._folder / name).stat().st_size

    def files(self, suffix: str, entry: str) -> Iterator[tuple[str, bool]]:
        for path in self._folder.rglob(f"*.{suffix}"):
            yield path.relative_to(self._folder).as_posix(), True  # who asks holds the lock: nobody else is writing

    @contextmanager
    def alone(self) -> Generator[None]:
        """Keep all others from writing; the lock of a process that dies is let go by the system."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / ".lock").open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def arrow(self) -> tuple[Any, str]:
        return filesystems.LocalFileSystem(), str(self._folder)

    def _write(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


class Bucket:
    """A part of a bucket, by its URL: `s3://bucket/lake/events`, `gs://bucket/lake/events`, `az://bucket/lake/events`."""

    def __init__(self, url: str) -> None:
        self._url = url
        if not url.startswith(("s3://", "gs://", *_AZURE)):
            raise LakeError(
                f"{url}: plain files are kept in a folder, in s3://…, gs://…, az://… or abfss://…; "
                "use delta+… elsewhere"
            )
        self._heeds = False
        self._objects: Any = library("obstore", "lake")
        self._failures: Any = library("obstore.exceptions", "lake")
        self._store: Any = library("obstore.store", "lake").from_url(url)

    def read(self, name: str) -> bytes | None:
        try:
            return bytes(self._objects.get(self._store, name).bytes())
        except (FileNotFoundError, self._failures.NotFoundError):
            return None

    def create(self, name: str, data: bytes) -> bool:
        if not self._heeds:
            self._confirm()
            self._heeds = True
        return self._create(name, data)

    def write(self, name: str, data: bytes) -> None:
        self._objects.put(self._store, name, data)

    def delete(self, name: str) -> None:
        try:
            self._objects.delete(self._store, name)
        except (FileNotFoundError, self._failures.NotFoundError):
            return

    def size(self, name: str) -> int:
        return int(self._objects.head(self._store, name)["size"])

    def files(self, suffix: str, entry: str) -> Iterator[tuple[str, bool]]:
        before = self._objects.head(self._store, entry)["last_modified"] - _SKEW
        for part in self._objects.list(self._store):
            for each in part:
                if each["path"].endswith(f".{suffix}"):
                    yield each["path"], each["last_modified"] < before

    @contextmanager
    def alone(self) -> Generator[None]:
        """Do nothing: who is overtaken notices when it commits."""
        yield

    def arrow(self) -> tuple[Any, str]:
        """Return Arrow's own file system: its threads wait for no Python."""
        if self._url.startswith(_AZURE):
            return _azure(self._store)
        system, path = filesystems.FileSystem.from_uri(self._url)
        return system, path

    def _create(self, name: str, data: bytes) -> bool:
        try:
            self._objects.put(self._store, name, data, mode="create", use_multipart=False)
        except (NotImplementedError, self._failures.NotSupportedError) as error:
            raise self._unsafe() from error
        except self._failures.BaseError:  # there is one; or an answer was lost, and what was asked may have been done
            found = self.read(name)
            if found is None:
                raise
            return found == data
        return True

    def _confirm(self) -> None:
        """Raise `LakeError` if a second file can be put in place under a name that is taken."""
        name = f"_probe/{uuid4().hex}"
        first, second = self._create(name, b"first"), self._create(name, b"second")
        self.delete(name)
        if second or not first:
            raise self._unsafe()

    def _unsafe(self) -> LakeError:
        return LakeError(
            f"{self._url}: this storage does not heed the condition of a put that there be no file of that name "
            "(If-None-Match: *), so two collectors would overwrite each other's commits. Use a storage that does, or "
            "iceberg+… with a catalog"
        )


def folders(url: str) -> set[str]:
    """Return the names of the folders that are right below a URL of object storage."""
    found = library("obstore", "lake").list_with_delimiter(library("obstore.store", "lake").from_url(url))
    return {each.rpartition("/")[2] for each in found["common_prefixes"]}


def _azure(store: Any) -> tuple[Any, str]:
    """Return Arrow's file system for Azure, and where in it a store is.

    Arrow itself knows none of the variables by which obstore and deltalake find the account, its key and its server.
    What they and Azure's own libraries call alike, as `AZURE_CLIENT_ID`, it reads if there is no key and no token.
    """
    account = store.config.get("account_name") or _told("AZURE_STORAGE_ACCOUNT_NAME")
    if account is None:
        raise LakeError("which of Azure's accounts is it? Set AZURE_STORAGE_ACCOUNT_NAME")
    given = dict[str, str]()
    if key := _told("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_MASTER_KEY"):
        given["account_key"] = key
    elif token := _told("AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_SAS_KEY"):
        given["sas_token"] = "?" + token.removeprefix("?")  # Arrow puts it behind URLs as it is
    if endpoint := _told("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"):
        server = urlsplit(endpoint)
        for service in ("blob", "dfs"):
            given[f"{service}_storage_scheme"] = server.scheme
            given[f"{service}_storage_authority"] = server.netloc.replace(".blob.", f".{service}.")
    return filesystems.AzureFileSystem(account, **given), f"{store.config['container_name']}/{store.prefix}"


def _told(*names: str) -> str | None:
    return next((os.environ[name] for name in names if name in os.environ), None)
