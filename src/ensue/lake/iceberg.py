"""Tables in the format of Iceberg: the checkpoints of all sources are a property of the snapshot that adds the rows.

A commit is refused if another one has been made since the table was looked at, whatever it did; then it is looked at
again. pyiceberg's own retries would commit old checkpoints on top of new ones: they are switched off.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import date, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from ensue.errors import LakeError, Overtaken
from ensue.lake.erasing import STATISTICS, StillKept, without
from ensue.lake.libraries import compute, datasets, library, pa
from ensue.lake.table import Checkpoint, Compacted

_catalogs: Any = library("pyiceberg.catalog", "iceberg")
_failures: Any = library("pyiceberg.exceptions", "iceberg")
_expressions: Any = library("pyiceberg.expressions", "iceberg")
_arrow: Any = library("pyiceberg.io.pyarrow", "iceberg")
_partitioning: Any = library("pyiceberg.partitioning", "iceberg")
_sorting: Any = library("pyiceberg.table.sorting", "iceberg")
_transforms: Any = library("pyiceberg.transforms", "iceberg")
NAMESPACE = "ensue"
_CHECKPOINTS = "ensue.checkpoints"
_FIELD = "PARQUET:field_id"
_TRIES = 50
_decode = msgspec.json.Decoder(dict[str, tuple[int, int]]).decode


def catalog_of(place: str, options: dict[str, str]) -> Any:
    """Return the catalog of a place: a REST catalog by its URL, else one in SQL, by default a file in the folder."""
    return _catalog(place, tuple(sorted(options.items())))


@lru_cache(maxsize=16)
def _catalog(place: str, options: tuple[tuple[str, str], ...]) -> Any:
    given = {"py-io-impl": "pyiceberg.io.pyarrow.PyArrowFileIO"}
    if endpoint := os.environ.get("AWS_ENDPOINT_URL"):
        given["s3.endpoint"] = endpoint
    given |= dict(options)
    if place.startswith(("http://", "https://")):
        catalog = _catalogs.load_catalog("ensue", type="rest", uri=place, **given)
    else:
        uri = given.pop("catalog", None)
        if uri is None and "://" in place:
            raise LakeError(
                f"iceberg+{place}: say where the catalog is: iceberg+{place}?catalog=postgresql://user@host/database, "
                "or give the URL of a REST catalog instead"
            )
        if uri is None:
            Path(place).mkdir(parents=True, exist_ok=True)
            uri = f"sqlite:///{place}/catalog.db"
        elif uri.startswith(("postgresql://", "postgres://")):
            uri = "postgresql+psycopg://" + uri.partition("://")[2]
        warehouse = place if "://" in place else f"file://{place}"
        catalog = _catalogs.load_catalog("ensue", type="sql", uri=uri, warehouse=warehouse, **given)
    with suppress(_failures.NamespaceAlreadyExistsError):
        catalog.create_namespace(NAMESPACE)
    return catalog


def names(catalog: Any) -> list[str]:
    """Return the names of the tables."""
    return sorted(str(name[-1]) for name in catalog.list_tables(NAMESPACE))


class IcebergTable:
    """One table."""

    def __init__(self, catalog: Any, name: str) -> None:
        self._catalog = catalog
        self._name = f"{NAMESPACE}.{name}"

    def exists(self) -> bool:
        return bool(self._catalog.table_exists(self._name))

    def create(self, schema: Any, partitions: Sequence[str], properties: dict[str, str]) -> None:
        kept = {f"write.metadata.metrics.column.{name}": "full" for name in schema.names if name in STATISTICS}
        wanted = {**properties, **kept, "write.metadata.metrics.default": "none"}
        numbered = _arrow.pyarrow_to_schema(
            pa.schema([each.with_metadata({_FIELD: str(number)}) for number, each in enumerate(schema, 1)])
        )
        number_of = {each.name: each.field_id for each in numbered.fields}
        as_it_is = _transforms.IdentityTransform()
        spec = _partitioning.PartitionSpec(
            *(
                _partitioning.PartitionField(number_of[name], 1000 + place, as_it_is, name)
                for place, name in enumerate(partitions)
            )
        )
        order = _sorting.SortOrder(_sorting.SortField(number_of["sequence"], as_it_is))
        with suppress(_failures.TableAlreadyExistsError):
            self._catalog.create_table(self._name, numbered, partition_spec=spec, sort_order=order, properties=wanted)

    def properties(self) -> dict[str, str]:
        return dict(self._load().properties)

    def checkpoint(self, source: str) -> Checkpoint:
        return _checkpoints(self._load()).get(source, Checkpoint())

    def append(self, rows: Any, source: str, before: Checkpoint, after: Checkpoint) -> None:
        def add(table: Any) -> None:
            known = _checkpoints(table)
            if (found := known.get(source, Checkpoint())) != before:
                raise Overtaken(f"{source} has been collected up to position {found.position} by another collector")
            table.append(rows, snapshot_properties=_marks({**known, source: after}))

        self._commit(add)

    def data(self) -> Any:
        table = self._load()
        schema = table.schema().as_arrow()
        plain = pa.schema([pa.field(each.name, _small(each.type), each.nullable) for each in schema])
        files = [table.io.parse_location(task.file.file_path) for task in table.scan().plan_files()]
        if not files:
            return datasets.dataset(pa.Table.from_batches([], plain))
        scheme, host, _ = files[0]
        system = table.io.fs_by_scheme(scheme, host)
        return datasets.dataset([path for _, _, path in files], schema=plain, format="parquet", filesystem=system)

    def compact(self, size: int) -> Compacted:
        before = after = 0
        for parts, files in self._partitions():
            small = [each for each in files if each[1] < size // 2]
            if len(small) > 1:
                before += len(files)
                after += self._rewrite(parts, lambda rows: rows)
        return Compacted(before, after)

    def erase(self, ids: Sequence[str], at: datetime) -> int:
        chosen, erased = pa.array(ids, pa.string()), 0
        for parts, _ in tuple(self._partitions()):
            here = self.data().filter(_matching(parts)).count_rows(filter=compute.field("id").isin(chosen))
            if here:
                erased += here
                self._rewrite(parts, lambda rows: without(rows, chosen, at))
        try:
            self._forget()
        except _failures.RESTError as error:
            raise StillKept(
                f"{self._name}: {erased} events are erased, but older snapshots still hold what they said, and the "
                f"catalog does not let them go: {error}. Expire them by the means of the catalog"
            ) from error
        return erased

    # --- rewriting

    def _partitions(self) -> Iterator[tuple[dict[str, Any], list[tuple[str, int]]]]:
        """Return the partitions, by their values, with the path and the size of each file."""
        table, found = self._load(), dict[tuple[Any, ...], list[tuple[str, int]]]()
        columns = [table.schema().find_column_name(each.source_id) for each in table.spec().fields]
        for task in table.scan().plan_files():
            values = tuple(task.file.partition[number] for number in range(len(columns)))
            found.setdefault(values, []).append((task.file.file_path, task.file.file_size_in_bytes))
        for values, files in found.items():
            yield dict(zip(columns, map(_value, columns, values), strict=True)), files

    def _rewrite(self, parts: dict[str, Any], change: Callable[[Any], Any]) -> int:
        """Write a partition, a day's events of a type, anew; return how many files it has then. It is read whole."""
        where = _expressions.AlwaysTrue()
        for name, value in parts.items():
            where = _expressions.And(where, _expressions.EqualTo(name, value))

        def rewrite(table: Any) -> None:
            rows = self.data().to_table(filter=_matching(parts))
            rows = change(rows.sort_by([("source", "ascending"), ("sequence", "ascending")]))
            table.overwrite(rows, overwrite_filter=where, snapshot_properties=_marks(_checkpoints(table)))

        self._commit(rewrite)
        return sum(len(files) for values, files in self._partitions() if values == parts)

    def _forget(self) -> None:
        """Delete the older snapshots, and the files that only they had."""
        table = self._load()
        kept = {task.file.file_path for task in table.scan().plan_files()}
        old = {path for path in table.inspect.all_data_files().column("file_path").to_pylist() if path not in kept}
        current = table.current_snapshot()
        for snapshot in table.snapshots():
            if current is not None and snapshot.snapshot_id != current.snapshot_id:
                table.maintenance.expire_snapshots().by_id(snapshot.snapshot_id).commit()
        for path in old:
            table.io.delete(path)

    def _load(self) -> Any:
        return self._catalog.load_table(self._name)

    def _commit(self, change: Callable[[Any], None]) -> None:
        for _ in range(_TRIES):
            table = self._load()
            table.metadata.properties["commit.retry.num-retries"] = "0"  # of this copy, not of what is committed
            try:
                change(table)
            except _failures.CommitFailedException:
                continue
            else:
                return
        raise LakeError(f"{self._name}: somebody else commits all the time; {_TRIES} attempts failed")


def _checkpoints(table: Any) -> dict[str, Checkpoint]:
    """Return the checkpoints of the newest snapshot that has them: other programs may have made some behind it."""
    snapshot = table.current_snapshot()
    while snapshot is not None:
        text = None if snapshot.summary is None else snapshot.summary.additional_properties.get(_CHECKPOINTS)
        if text is not None:
            return {source: Checkpoint(*numbers) for source, numbers in _decode(text).items()}
        if snapshot.parent_snapshot_id is None:
            return {}
        parent = table.snapshot_by_id(snapshot.parent_snapshot_id)
        if parent is None:
            raise LakeError(
                f"{table.name()}: no snapshot that is kept says how far it was collected: those of the collector have "
                "been expired, and only ones of other programs are left"
            )
        snapshot = parent
    return {}


def _marks(checkpoints: dict[str, Checkpoint]) -> dict[str, str]:
    plain = {source: (each.position, each.sequence) for source, each in checkpoints.items()}
    return {_CHECKPOINTS: msgspec.json.encode(plain).decode()}


def _small(type: Any) -> Any:
    return pa.string() if type == pa.large_string() else type


def _value(column: str, value: Any) -> Any:
    return date.fromordinal(719163 + value) if column == "date" and isinstance(value, int) else value


def _matching(parts: dict[str, Any]) -> Any:
    found = None
    for name, value in parts.items():
        condition = compute.field(name) == pa.scalar(value)
        found = condition if found is None else found & condition
    return found
