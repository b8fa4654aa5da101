"""Tables in the format of Delta Lake: the checkpoint is an application transaction of the commit that adds the rows.

The protocol has it for exactly this, see "Transaction Identifiers" in Delta's PROTOCOL.md: two commits that both move
the transaction of one application conflict, and the later one is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from ensue.errors import LakeError, Overtaken
from ensue.lake.erasing import STATISTICS, TOMBSTONE
from ensue.lake.libraries import library
from ensue.lake.table import Checkpoint, Compacted

_delta: Any = library("deltalake", "lake")
_failures: Any = library("deltalake.exceptions", "lake")
_TRIES = 20


class DeltaTable:
    """One table."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._loaded: Any = None

    def exists(self) -> bool:
        return self._loaded is not None or bool(_delta.DeltaTable.is_deltatable(self._uri))

    def create(self, schema: Any, partitions: Sequence[str], properties: dict[str, str]) -> None:
        kept = ",".join(name for name in schema.names if name in STATISTICS)
        _delta.DeltaTable.create(
            self._uri,
            _delta.Schema.from_arrow(schema),
            mode="ignore",
            partition_by=list(partitions),
            configuration={**properties, "delta.dataSkippingStatsColumns": kept},
            raise_if_key_not_exists=False,  # the properties are ours
        )

    def properties(self) -> dict[str, str]:
        return dict(self._table().metadata().configuration)

    def checkpoint(self, source: str) -> Checkpoint:
        table = self._fresh()
        return Checkpoint(*(table.transaction_version(f"ensue/{source}/{what}") or 0 for what in _MARKS))

    def append(self, rows: Any, source: str, before: Checkpoint, after: Checkpoint) -> None:
        marks = [
            _delta.Transaction(f"ensue/{source}/{what}", version)
            for what, version in zip(_MARKS, (after.position, after.sequence), strict=True)
        ]
        for _ in range(_TRIES):
            if (found := self.checkpoint(source)) != before:
                raise Overtaken(f"{source} has been collected up to position {found.position} by another collector")
            try:
                _delta.write_deltalake(
                    self._table(),
                    rows,
                    mode="append",
                    commit_properties=_delta.CommitProperties(app_transactions=marks),
                )
            except _failures.CommitFailedError:
                self._loaded = None  # looked at again: perhaps it was no collector of this source
            else:
                return
        raise LakeError(f"{self._uri}: somebody else commits all the time; {_TRIES} attempts failed")

    def data(self) -> Any:
        return self._fresh().to_pyarrow_dataset()

    def compact(self, size: int) -> Compacted:
        table, before, after = self._fresh(), 0, 0
        for parts in _with_small_files(table, size // 2):
            done = table.optimize.z_order(["sequence"], partition_filters=parts, target_size=size)
            before += int(done["numFilesRemoved"])
            after += int(done["numFilesAdded"])
        return Compacted(before, after)

    def erase(self, ids: Sequence[str], at: datetime) -> int:
        table = self._fresh()
        chosen = "id in ({})".format(", ".join("'{}'".format(each.replace("'", "''")) for each in ids))
        if "payload" in table.schema().to_arrow().names:
            emptied = dict.fromkeys(TOMBSTONE, "null")
            moment = f"cast('{at:%Y-%m-%dT%H:%M:%S.%fZ}' as timestamp)"
            done = table.update(updates={**emptied, "erased_at": moment}, predicate=chosen)
            erased = int(done["num_updated_rows"])
        else:
            erased = int(table.delete(chosen)["num_deleted_rows"])
        table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
        return erased

    def _table(self) -> Any:
        if self._loaded is None:
            self._loaded = _delta.DeltaTable(self._uri)
        return self._loaded

    def _fresh(self) -> Any:
        table = self._table()
        table.update_incremental()
        return table


_MARKS = ("position", "sequence")
"""What the application transactions of a source count."""


def _with_small_files(table: Any, size: int) -> list[list[tuple[str, str, str]]]:
    """Return the partitions that have several files below a size, as filters."""
    files: Any = library("pyarrow", "lake").table(table.get_add_actions(flatten=False))
    small: dict[tuple[tuple[str, str, str], ...], int] = {}
    for partition, bytes in zip(files["partition"].to_pylist(), files["size_bytes"].to_pylist(), strict=True):
        parts = tuple((name, "=", str(value)) for name, value in partition.items())
        small[parts] = small.get(parts, 0) + (bytes < size)
    return [list(parts) for parts, count in small.items() if count > 1]
