"""What a table format has to be able to do, and what the collector's checkpoint is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far a source has been collected."""

    position: int = 0
    """The position in its log up to which everything is here."""
    sequence: int = 0
    """The number of its last event here; they count 1, 2, 3 … without a gap."""


@dataclass(frozen=True, slots=True)
class Compacted:
    """What compaction did."""

    before: int
    """Files that were replaced."""
    after: int
    """Files that replace them."""


class Table(Protocol):
    """One table of a lake, in one of its formats.

    What it commits it commits whole or not at all: a reader never sees half an `append`.
    """

    def exists(self) -> bool:
        """Tell whether the table is there."""
        ...

    def create(self, schema: Any, partitions: Sequence[str], properties: dict[str, str]) -> None:
        """Make the table; one that is there already, perhaps made by somebody faster, is left as it is."""
        ...

    def properties(self) -> dict[str, str]:
        """Return what it was made with."""
        ...

    def checkpoint(self, source: str) -> Checkpoint:
        """Return the checkpoint that was committed with this source's newest rows."""
        ...

    def append(self, rows: Any, source: str, before: Checkpoint, after: Checkpoint) -> None:
        """Commit rows, and with them the source's checkpoint, in one transaction.

        Raises `Overtaken` unless the checkpoint was `before` at that very moment.
        """
        ...

    def data(self) -> Any:
        """Return the table as it is now, as a dataset of Arrow's; files are read when it is."""
        ...

    def compact(self, size: int) -> Compacted:
        """Put small files of a partition together, into files of about so many bytes, sorted by sequence."""
        ...

    def erase(self, ids: Sequence[str], at: datetime) -> int:
        """Take out what events say, by their ids, and leave what they were as tombstones; return how many.

        A table of one type loses the rows. No file that held them is left when it returns; raises `StillKept` if some
        cannot be removed.
        """
        ...
