"""Tables of plain files, Parquet or JSON Lines: a journal beside them says which files belong to it.

An entry of the journal is one commit: the files that it adds and removes, and the checkpoint. It is put in place under
the number behind the last one that its maker had read when it began, which one process can do and no second one; who
is overtaken reads on and makes it anew. So files that were written before an entry was put, and that neither it nor one
before it names, are named by none ever: a process that was killed has left them, or one that was overtaken will delete
them. The next one that commits removes them. In a folder, who writes holds a lock meanwhile, and nobody is overtaken.
Readers take the files that the journal names; others, who take what is there, may see left-overs.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from datetime import date, datetime
from functools import partial
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
    by: str = msgspec.field(default_factory=lambda: uuid4().hex)
    """Random: no other commit has the same bytes."""


class _State(msgspec.Struct, kw_only=True):
    """What the journal comes to."""

    entries: int = 0
    files: dict[str, None] = {}
    removed: set[str] = set()
    """Files that were in the table."""
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
        return bool(self._known.entries or self._place.read(_name(1)) is not None)

    def create(self, schema: Any, partitions: Sequence[str], properties: dict[str, str]) -> None:
        with self._place.alone():
            if not self.exists():
                self._place.create(_SCHEMA, schema.serialize().to_pybytes())
                self._place.create(_name(1), _encode(_Entry(properties=properties, partitions=list(partitions))))

    def properties(self) -> dict[str, str]:
        return self._state().properties

    def checkpoint(self, source: str) -> Checkpoint:
        return Checkpoint(*self._state().checkpoints.get(source, (0, 0)))

    def append(self, rows: Any, source: str, before: Checkpoint, after: Checkpoint) -> None:
        def make(state: _State) -> _Entry:
            if (found := Checkpoint(*state.checkpoints.get(source, (0, 0)))) != before:
                raise Overtaken(f"{source} has been collected up to position {found.position} by another collector")
            add = self._write(rows, f"{after.sequence:012d}")
            return _Entry(add=add, checkpoints={source: (after.position, after.sequence)})

        self._commit(make)

    def data(self) -> Any:
        files = sorted(self._state().files)
        return self._dataset(files) if files else datasets.dataset(pa.Table.from_batches([], self._read_schema()))

    def compact(self, size: int) -> Compacted:
        before, after = 0, 0
        for folder in sorted({_folder(each) for each in self._state().files}):
            done = self._commit(partial(self._together, folder, size))
            before += len(done.remove)
            after += len(done.add)
        return Compacted(before, after)

    def erase(self, ids: Sequence[str], at: datetime) -> int:
        chosen, erased, clean = pa.array(ids, pa.string()), 0, set[str]()

        def make(state: _State) -> _Entry:
            nonlocal erased
            erased = 0
            add: list[str] = []
            remove: list[str] = []
            for each in [each for each in state.files if each not in clean]:
                rows = self._read([each])
                hits = compute.sum(compute.is_in(rows.column("id"), value_set=chosen)).as_py() or 0
                if hits:
                    erased += hits
                    remove.append(each)
                    add += self._write(without(rows, chosen, at), "erased")
                else:
                    clean.add(each)
            return _Entry(add=add, remove=remove)

        self._commit(make)
        with self._place.alone():
            self._sweep()
        return int(erased)

    # --- files

    def _write(self, rows: Any, label: str) -> list[str]:
        """Write rows into new files, one for each partition; return their names."""
        partitions = self._known.partitions
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

    def _together(self, folder: str, size: int, state: _State) -> _Entry:
        """Put the files of a partition together if several are small."""
        files = [each for each in state.files if _folder(each) == folder]
        if sum(self._place.size(each) < size // 2 for each in files) < 2:
            return _Entry()
        return _Entry(add=self._write(self._read(files), "compact"), remove=files)

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
        system, base = self._place.arrow()
        return datasets.dataset(
            [f"{base}/{each}" for each in files],
            schema=schema,
            format="parquet" if self._format == "parquet" else datasets.JsonFileFormat(),
            partitioning=datasets.partitioning(fields, flavor="hive"),
            partition_base_dir=base,
            filesystem=system,
        )

    def _read_schema(self) -> Any:
        if self._schema is None:
            self._schema = pa.ipc.read_schema(pa.py_buffer(self._place.read(_SCHEMA) or b""))
        return self._schema

    def _sweep(self) -> None:
        """Remove what no entry of the journal will name: what a killed process left, and what was replaced."""
        state = self._state()
        for name, settled in list(self._place.files(self._format, _name(state.entries))):
            if name not in state.files and (settled or name in state.removed):
                self._place.delete(name)
        self._tidy = True

    # --- the journal

    def _state(self) -> _State:
        """Return what the journal comes to now."""
        known = self._known
        while (found := self._place.read(_name(known.entries + 1))) is not None:
            entry = _decode(found)
            known.entries += 1
            for each in entry.remove:
                known.files.pop(each, None)
            known.removed.update(entry.remove)
            known.files.update(dict.fromkeys(entry.add))
            known.checkpoints.update(entry.checkpoints)
            known.properties.update(entry.properties)
            known.partitions = entry.partitions or known.partitions
        return known

    def _commit(self, make: Callable[[_State], _Entry]) -> _Entry:
        """Commit what is made of the newest state, anew if somebody else was faster; return what was committed."""
        for _ in range(_TRIES):
            with self._place.alone():
                state = self._state()
                number = state.entries + 1  # behind what `make` is shown: what comes meanwhile may contradict it
                entry = make(state)
                if not (entry.add or entry.remove):
                    return entry
                if self._place.create(_name(number), _encode(entry)):
                    if not self._tidy:
                        self._sweep()
                    return entry
                for each in entry.add:
                    self._place.delete(each)
        raise LakeError(f"somebody else commits to this table all the time; {_TRIES} attempts failed")


def _name(number: int) -> str:
    return f"{_JOURNAL}/{number:012d}.json"


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


def _text(value: Any) -> str:
    return value.isoformat() if isinstance(value, date) else str(value)


def _plain(value: Any) -> Any:
    return value.isoformat(timespec="microseconds").replace("+00:00", "Z") if isinstance(value, datetime) else value
