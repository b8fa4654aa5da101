"""Tables of plain files, Parquet or JSON Lines, in a folder: a journal beside them says which files belong to it.

An entry of the journal is one commit: the files that it adds and removes, and the checkpoint. It is linked into place
under the next number, which one process can do and no second one. Who writes holds a lock on the journal meanwhile, so
that files which no entry names are what was left by a process that was killed; the next one removes them. Readers take
the files that the journal names; others, who take what is in the folder, may see those left-overs until then.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import msgspec

from ensue.errors import Overtaken
from ensue.lake.erasing import without
from ensue.lake.libraries import compute, datasets, pa, parquet
from ensue.lake.table import Checkpoint, Compacted

_JOURNAL = "_journal"


class _Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A commit."""

    add: list[str] = []
    remove: list[str] = []
    checkpoints: dict[str, tuple[int, int]] = {}
    """Those that it moves."""
    properties: dict[str, str] = {}
    partitions: list[str] = []


class _State(msgspec.Struct, kw_only=True):
    """What the journal comes to."""

    entries: int = 0
    files: dict[str, None] = {}
    checkpoints: dict[str, tuple[int, int]] = {}
    properties: dict[str, str] = {}
    partitions: list[str] = []


_decode = msgspec.json.Decoder(_Entry).decode


class PlainTable:
    """One table."""

    def __init__(self, folder: Path, format: str) -> None:
        self._folder = folder
        self._journal = folder / _JOURNAL
        self._format = format
        self._known = _State()
        self._tidy = False
        self._schema: Any = None

    def exists(self) -> bool:
        return self._entry(1).exists()

    def create(self, schema: Any, partitions: Sequence[str], properties: dict[str, str]) -> None:
        self._journal.mkdir(parents=True, exist_ok=True)
        with self._locked():
            if not self.exists():
                (self._folder / "_schema").write_bytes(schema.serialize().to_pybytes())
                self._link(1, _Entry(properties=properties, partitions=list(partitions)))

    def properties(self) -> dict[str, str]:
        return self._state().properties

    def checkpoint(self, source: str) -> Checkpoint:
        return Checkpoint(*self._state().checkpoints.get(source, (0, 0)))

    def append(self, rows: Any, source: str, before: Checkpoint, after: Checkpoint) -> None:
        def make(state: _State) -> _Entry:
            if (found := Checkpoint(*state.checkpoints.get(source, (0, 0)))) != before:
                raise Overtaken(f"{source} has been collected up to position {found.position} by another collector")
            label = f"{after.sequence:012d}"
            return _Entry(add=self._write(rows, label), checkpoints={source: (after.position, after.sequence)})

        self._commit(make)

    def data(self) -> Any:
        state = self._state()
        schema = self._read_schema()
        if not state.files:
            return datasets.dataset(pa.Table.from_batches([], schema))
        fields = pa.schema([schema.field(each) for each in state.partitions])
        return datasets.dataset(
            [str(self._folder / each) for each in sorted(state.files)],
            schema=schema,
            format="parquet" if self._format == "parquet" else datasets.JsonFileFormat(),
            partitioning=datasets.partitioning(fields, flavor="hive"),
            partition_base_dir=str(self._folder),
        )

    def compact(self, size: int) -> Compacted:
        done = Compacted(0, 0)

        def make(state: _State) -> _Entry:
            nonlocal done
            folders: dict[str, list[str]] = {}
            for each in state.files:
                folders.setdefault(each.rpartition("/")[0], []).append(each)
            add: list[str] = []
            remove: list[str] = []
            for files in folders.values():
                if sum((self._folder / each).stat().st_size < size // 2 for each in files) > 1:
                    remove += files
                    add += self._write(self._read(files), "compact")
            done = Compacted(len(remove), len(add))
            return _Entry(add=add, remove=remove)

        self._commit(make)
        return done

    def erase(self, ids: Sequence[str], at: datetime) -> int:
        chosen, erased = pa.array(ids, pa.string()), 0

        def make(state: _State) -> _Entry:
            nonlocal erased
            erased = 0
            add: list[str] = []
            remove: list[str] = []
            for each in state.files:
                rows = self._read([each])
                hits = compute.sum(compute.is_in(rows.column("id"), value_set=chosen)).as_py() or 0
                if hits:
                    erased += hits
                    remove.append(each)
                    add += self._write(without(rows, chosen, at), "erased")
            return _Entry(add=add, remove=remove)

        self._commit(make)
        with self._locked():
            self._sweep()
        return int(erased)

    # --- files

    def _write(self, rows: Any, label: str) -> list[str]:
        """Write rows into new files, one for each partition; return their names."""
        partitions = self._state().partitions
        table = rows.sort_by([("source", "ascending"), ("sequence", "ascending")])
        found: list[str] = []
        for values in table.select(partitions).group_by(partitions).aggregate([]).to_pylist():
            part = table
            for name, value in values.items():
                part = part.filter(compute.equal(part.column(name), pa.scalar(value, part.schema.field(name).type)))
            folder = "/".join(f"{name}={quote(_text(value), safe='')}" for name, value in values.items())
            name = f"{folder}/{label}-{uuid4().hex}.{self._format}"
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            self._save(part.drop_columns(partitions), path)
            found.append(name)
        return found

    def _save(self, rows: Any, path: Path) -> None:
        with path.open("wb") as file:
            if self._format == "parquet":
                parquet.write_table(rows, file, compression="zstd")
            else:
                for row in rows.to_pylist():
                    file.write(msgspec.json.encode({name: _plain(value) for name, value in row.items()}) + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _read(self, files: Sequence[str]) -> Any:
        known = self._state()
        fields = pa.schema([self._read_schema().field(each) for each in known.partitions])
        return datasets.dataset(
            [str(self._folder / each) for each in files],
            schema=self._read_schema(),
            format="parquet" if self._format == "parquet" else datasets.JsonFileFormat(),
            partitioning=datasets.partitioning(fields, flavor="hive"),
            partition_base_dir=str(self._folder),
        ).to_table()

    def _read_schema(self) -> Any:
        if self._schema is None:
            self._schema = pa.ipc.read_schema(pa.py_buffer((self._folder / "_schema").read_bytes()))
        return self._schema

    def _sweep(self) -> None:
        """Remove what no entry of the journal names: what a process left that was killed, and what was replaced."""
        named = self._state().files
        for path in self._folder.rglob(f"*.{self._format}"):
            if path.relative_to(self._folder).as_posix() not in named:
                path.unlink(missing_ok=True)
        self._tidy = True

    @contextmanager
    def _locked(self) -> Generator[None]:
        """Keep all others from writing; the lock of a process that dies is let go by the system."""
        with (self._journal / ".lock").open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    # --- the journal

    def _entry(self, number: int) -> Path:
        return self._journal / f"{number:012d}.json"

    def _state(self) -> _State:
        """Return what the journal comes to now."""
        known = self._known
        while True:
            try:
                entry = _decode(self._entry(known.entries + 1).read_bytes())
            except FileNotFoundError:
                return known
            known.entries += 1
            for each in entry.remove:
                known.files.pop(each, None)
            known.files.update(dict.fromkeys(entry.add))
            known.checkpoints.update(entry.checkpoints)
            known.properties.update(entry.properties)
            known.partitions = entry.partitions or known.partitions

    def _commit(self, make: Callable[[_State], _Entry]) -> None:
        with self._locked():
            if not self._tidy:
                self._sweep()
            state = self._state()
            entry = make(state)
            if entry.add or entry.remove:
                self._link(state.entries + 1, entry)
                self._state()

    def _link(self, number: int, entry: _Entry) -> None:
        """Put an entry in place, whole; raise `FileExistsError` if another has its number."""
        temporary = self._journal / f".{uuid4().hex}"
        with temporary.open("wb") as file:
            file.write(msgspec.json.encode(entry))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, self._entry(number))
        finally:
            temporary.unlink()


def _text(value: Any) -> str:
    return value.isoformat() if isinstance(value, date) else str(value)


def _plain(value: Any) -> Any:
    return value.isoformat(timespec="microseconds").replace("+00:00", "Z") if isinstance(value, datetime) else value
