"""Tables of plain files, Parquet or JSON Lines: a journal beside them says which files belong to it.

An entry of the journal is one commit: the files that it adds and removes, and the checkpoint. It is put in place under
the next number, which one process can do and no second one. In a folder, who writes holds a lock on the journal
meanwhile, so that files which no entry names are what was left by a process that was killed; the next one removes
them. In object storage nobody waits: who is overtaken writes again. Readers take the files that the journal names;
others, who take what is there, may see left-overs.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import msgspec

from ensue.errors import LakeError, Overtaken
from ensue.lake.erasing import without
from ensue.lake.libraries import compute, datasets, pa, parquet
from ensue.lake.places import Place
from ensue.lake.table import Checkpoint, Compacted

_JOURNAL = "_journal"
_SCHEMA = "_schema"
_TRIES = 50


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
_encode = msgspec.json.Encoder().encode


class PlainTable:
    """One table."""

    def __init__(self, place: Place, format: str) -> None:
        self._place = place
        self._format = format
        self._known = _State()
        self._tidy = False
        self._schema: Any = None

    def exists(self) -> bool:
        return bool(self._known.entries or self._place.read(_entry(1)) is not None)

    def create(self, schema: Any, partitions: Sequence[str], properties: dict[str, str]) -> None:
        with self._place.alone():
            if not self.exists():
                self._place.create(_SCHEMA, schema.serialize().to_pybytes())
                self._place.create(_entry(1), _encode(_Entry(properties=properties, partitions=list(partitions))))

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
        files = sorted(self._state().files)
        return self._dataset(files) if files else datasets.dataset(pa.Table.from_batches([], self._read_schema()))

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
                if sum(self._place.size(each) < size // 2 for each in files) > 1:
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

        gone = self._commit(make)
        with self._place.alone():
            for each in gone:
                self._place.delete(each)
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
            self._place.write(name, self._bytes_of(part.drop_columns(partitions)))
            found.append(name)
        return found

    def _bytes_of(self, rows: Any) -> bytes:
        if self._format == "parquet":
            file = io.BytesIO()
            parquet.write_table(rows, file, compression="zstd")
            return file.getvalue()
        lines = (_encode({name: _plain(value) for name, value in row.items()}) for row in rows.to_pylist())
        return b"".join(line + b"\n" for line in lines)

    def _read(self, files: Sequence[str]) -> Any:
        return self._dataset(files).to_table()

    def _dataset(self, files: Sequence[str]) -> Any:
        schema = self._read_schema()
        fields = pa.schema([schema.field(each) for each in self._known.partitions])

        def make(system: Any, base: str) -> Any:
            return datasets.dataset(
                [f"{base}/{each}" for each in files],
                schema=schema,
                format="parquet" if self._format == "parquet" else datasets.JsonFileFormat(),
                partitioning=datasets.partitioning(fields, flavor="hive"),
                partition_base_dir=base,
                filesystem=system,
            )

        return self._place.open(files, make, threads=self._format == "jsonl")

    def _read_schema(self) -> Any:
        if self._schema is None:
            self._schema = pa.ipc.read_schema(pa.py_buffer(self._place.read(_SCHEMA) or b""))
        return self._schema

    def _sweep(self) -> None:
        """Remove what no entry of the journal names: what a process left that was killed, and what was replaced."""
        for name in list(self._place.left_over(self._format, self._state().files)):
            self._place.delete(name)
        self._tidy = True

    # --- the journal

    def _state(self) -> _State:
        """Return what the journal comes to now."""
        known = self._known
        while (found := self._place.read(_entry(known.entries + 1))) is not None:
            entry = _decode(found)
            known.entries += 1
            for each in entry.remove:
                known.files.pop(each, None)
            known.files.update(dict.fromkeys(entry.add))
            known.checkpoints.update(entry.checkpoints)
            known.properties.update(entry.properties)
            known.partitions = entry.partitions or known.partitions
        return known

    def _commit(self, make: Callable[[_State], _Entry]) -> list[str]:
        """Commit what is made of the newest state, again if somebody else was faster; return the files it replaces."""
        for _ in range(_TRIES):
            with self._place.alone():
                if not self._tidy:
                    self._sweep()
                state = self._state()
                entry = make(state)
                if not (entry.add or entry.remove):
                    return []
                if self._place.create(_entry(state.entries + 1), _encode(entry)):
                    self._state()
                    return entry.remove
                for each in entry.add:
                    self._place.delete(each)
        raise LakeError(f"somebody else commits to this table all the time; {_TRIES} attempts failed")


def _entry(number: int) -> str:
    return f"{_JOURNAL}/{number:012d}.json"


def _text(value: Any) -> str:
    return value.isoformat() if isinstance(value, date) else str(value)


def _plain(value: Any) -> Any:
    return value.isoformat(timespec="microseconds").replace("+00:00", "Z") if isinstance(value, datetime) else value
