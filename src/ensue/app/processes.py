"""What operators do with processes, from the command line, the console or code."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from ensue.app.declarations import Declarations
from ensue.app.processing import undoing_of
from ensue.app.recording import Recording
from ensue.drawing import Map
from ensue.errors import UnknownName
from ensue.events import context
from ensue.handlers.carrying import Carrier, Work
from ensue.handlers.processes import ProcessSeen, ProcessShown, Status, begun, cancelling, diagram, processes, shown
from ensue.handlers.timers import WaitingTimer, next_timers, steer_timer
from ensue.log import Log, Steps


class Processes:
    """Looks at processes, and cancels them.

    Every method opens a sync connection of its own, and is sync, as those of `Operations` are.
    """

    def __init__(self, log: Log, declarations: Declarations, recording: Recording) -> None:
        self._log = log
        self._declarations = declarations
        self._recording = recording

    def _do(self, steps: Steps[Any]) -> Any:
        with self._log.own.lend() as connection:
            return self._log.run(steps, connection)

    def list(
        self, process: str | None = None, *, key: str | None = None, status: str | None = None, limit: int = 100
    ) -> list[ProcessSeen]:
        """Return processes, those that moved last first: of this name, of this key, of this status."""
        found: list[ProcessSeen] = self._do(processes(self._log, process=process, key=key, status=status, limit=limit))
        return found

    def begun(
        self, process: str, status: Status = "running", *, limit: int = 100, before: tuple[datetime, str] | None = None
    ) -> Sequence[ProcessSeen]:
        """Return processes of a name and a status, those that began last first, before a (`started_at`, `key`)."""
        found: list[ProcessSeen] = self._do(begun(self._log, process, status, limit, before))
        return found

    def show(self, process: str, key: str) -> ProcessShown:
        """Return everything about a process: its state, its steps, its timers. Raises `UnknownName`."""
        found: ProcessShown = self._do(shown(self._log, process, key))
        return found

    def cancel(self, process: str, key: str, *, actor: str, reason: str, compensate: bool = False) -> tuple[str, ...]:
        """End a running process, in one transaction with an entry in the audit table; nothing moves it any more.

        With `compensate`, what undoes its steps is recorded, the last first, each command when the one before it is
        done, and then it is cancelled; the wire types of that are returned. Without, one that is compensating gives up
        the rest. Raises `UnknownName` if no such process runs.
        """
        undoing = undoing_of(self._log, self._declarations, self._recording.record)

        def work() -> Work[tuple[str, ...]]:
            return cancelling(
                self._log, process, key, actor=actor, reason=reason, compensate=compensate, undoing=undoing
            )

        with context(actor=actor):
            return Carrier(self._log, process, asynchronous=False).directly(work)

    # --- timers

    def next_timers(self, limit: int = 100) -> Sequence[WaitingTimer]:
        """Return the timers that wait, of processes and of the application, the next one first."""
        found: Sequence[WaitingTimer] = self._do(next_timers(self._log, limit))
        return found

    def fire_timer(self, owner: str, name: str, *, actor: str, reason: str) -> None:
        """Let a timer be due now: a worker records its event within a second. Raises `UnknownName`."""
        self._steer(owner, name, "fire timer", actor, reason)

    def cancel_timer(self, owner: str, name: str, *, actor: str, reason: str) -> None:
        """Drop a timer: its event is never recorded. Raises `UnknownName`."""
        self._steer(owner, name, "cancel timer", actor, reason)

    def _steer(
        self, owner: str, name: str, action: Literal["fire timer", "cancel timer"], actor: str, reason: str
    ) -> None:
        steps = steer_timer(self._log, owner, name, action, actor=actor, reason=reason)
        self._do(self._log.transaction(self._log.impatiently(steps)))

    # --- drawing

    def diagram(self, process: str, version: int | None = None) -> Map:
        """Draw up a declared process, the newest version unless another is asked for; no database is needed.

        Raises `UnknownName` if it is not declared.
        """
        manager = self._declarations.managers.get(process)
        if manager is None:
            names = ", ".join(self._declarations.managers) or "none"
            raise UnknownName(f"no process {process!r} is declared; there are: {names}")
        number = max(manager.versions) if version is None else version
        if number not in manager.versions:
            there = ", ".join(map(str, sorted(manager.versions)))
            raise UnknownName(f"process {process!r} has no version {number}; it has {there}")
        return diagram(manager.versions[number].cls)
