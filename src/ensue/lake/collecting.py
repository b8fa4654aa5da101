"""The collector: a cursor over one log whose checkpoint lives in the lake, in the transaction that adds the rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ensue.contracts.cloudevents import source_of
from ensue.errors import Overtaken
from ensue.events import Kind
from ensue.lake.columns import rows_of
from ensue.lake.lake import Lake
from ensue.lake.libraries import pa
from ensue.lake.table import Checkpoint
from ensue.lake.typed import Typing
from ensue.log import Log, Pruned, Selection

ROWS = 100_000
BYTES = 64 * 1024 * 1024
"""A commit has so many rows or bytes at most: that bounds the memory."""
_CHUNK = 5000

Progress = Callable[[int, int], None]
"""Is told the position that has been reached, and the one up to which the log was complete."""


class Collector:
    """Collects from one log. It may be killed at any moment, and several may run: only one of them advances.

    Events come in position order up to the log's horizon, so that of a transaction that commits late none is missed.
    """

    def __init__(self, log: Log, lake: Lake, *, everything: bool = False, types: bool = True, rows: int = ROWS) -> None:
        """Take also whether it collects all events or only those that the service publishes.

        With `types` each type of event whose class is known gets a table of its own; a commit has `rows` at most.
        """
        self._rows = rows
        self.source = source_of(log.place.app)
        self.lake = lake
        self._log = log
        self._everything = everything
        self._kinds = () if everything else (Kind.INTEGRATION.value,)
        self._typing = Typing(lake.address, self.source) if types else None
        self._checkpoint: Checkpoint | None = None

    def begin(self) -> list[Pruned]:
        """Make the lake if it is not there, and hold the log; return what was pruned from it before it was collected.

        Raises `LakeError` if the lake holds something else.
        """
        self.lake.begin("everything" if self._everything else "integration")
        self._checkpoint = self.lake.events.checkpoint(self.source)
        if self._typing is not None:
            self._typing.catch_up()
        missing = self._hold(self._checkpoint)
        return [each for each in missing if self._everything or each.type.rpartition(".v")[2].isdecimal()]

    def step(self) -> int:
        """Collect the next events in one commit, if there are any; return how many."""
        if self._checkpoint is None:
            self.begin()
        before = self._checkpoint or Checkpoint()
        horizon = self._log.own.run(self._log.horizon())  # in a statement of its own, before the events are read
        rows, position = self._read(before, horizon)
        if rows is None:
            return 0
        after = Checkpoint(position, before.sequence + rows.num_rows)
        try:
            self.lake.events.append(rows, self.source, before, after)
        except Overtaken:
            self._checkpoint = None
            raise
        self._checkpoint = after
        self._hold(after)
        if self._typing is not None:
            self._typing.add(rows)
        return int(rows.num_rows)

    def collect(self, progress: Progress | None = None) -> int:
        """Collect all that the log holds now; return how many events were added."""
        if self._checkpoint is None:
            self.begin()
        goal, collected = self._log.own.run(self._log.horizon()), 0
        while True:
            try:
                added = self.step()
            except Overtaken:  # by another collector of this log: it goes on behind what that one has committed
                self.begin()
                continue
            collected += added
            reached = goal if self._checkpoint is None or not added else self._checkpoint.position
            if progress is not None:
                progress(min(reached, goal), goal)
            if reached >= goal:
                return collected

    def _read(self, before: Checkpoint, horizon: int) -> tuple[Any, int]:
        """Return the next rows, and the position up to which they are all; None if there are none."""
        parts: list[Any] = []
        position, count, size = before.position, 0, 0
        while position < horizon and count < self._rows and size < BYTES:
            selection = Selection(after=position, until=horizon, kinds=self._kinds)
            events = self._log.own.run(self._log.read(selection, min(_CHUNK, self._rows)))
            position = events[-1].position if len(events) == min(_CHUNK, self._rows) else horizon
            if events:
                part = rows_of(self.source, before.sequence + count, events)
                parts.append(part)
                count += part.num_rows
                size += part.nbytes
        return (pa.concat_tables(parts) if parts else None), position

    def _hold(self, checkpoint: Checkpoint) -> list[Pruned]:
        steps = self._log.hold(f"lake {self.lake.address}", checkpoint.position, "the lake has not collected it yet")
        return self._log.own.run(self._log.transaction(steps))
