"""What operators do with an application, from the command line, the console or code."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ensue.app.checking import Checked, check_events
from ensue.app.declarations import Declarations
from ensue.app.processing import undoing_of
from ensue.app.recording import Recording
from ensue.app.searching import Found, search
from ensue.brokers.windows import Window, window
from ensue.errors import UnknownName
from ensue.events import Recorded, context
from ensue.handlers.carrying import Carrier, Work
from ensue.handlers.processes import ticket_of
from ensue.log import Log, Selection, Steps
from ensue.subscriptions import pause, repartition, retire
from ensue.subscriptions.faults import Fault, faults
from ensue.subscriptions.flowing import Flow, flow
from ensue.subscriptions.inspecting import LastError, Passage, last_errors, owner, passages, queued
from ensue.subscriptions.operating import (
    ALL,
    AuditEntry,
    DeadLetter,
    Decision,
    Filter,
    Noting,
    Progress,
    audit,
    dead_letters,
    decide,
    edit,
    waiting,
)
from ensue.subscriptions.standings import Holder, Standing, WorkerSeen, alive, clock, holders, standings, workers


class Operations:
    """Looks at the log's subscriptions and changes their course.

    Every method opens a sync connection of its own. What changes something does so in one transaction, together with
    an entry in the audit table that names the actor and the reason.

    They are sync: in an asyncio program that runs the worker, call them in a thread (`asyncio.to_thread`), because a
    call that waits for the worker's transaction would keep the worker from ending it. Such a call gives up after ten
    seconds and raises `DatabaseUnavailable`.
    """

    def __init__(self, log: Log, declarations: Declarations, recording: Recording) -> None:
        self._log = log
        self._declarations = declarations
        self._record = recording.record

    def _do(self, steps: Steps[Any]) -> Any:
        with self._log.own.lend() as connection:
            return self._log.run(steps, connection)

    def _change(self, steps: Steps[Any]) -> Any:
        with self._log.own.lend() as connection:
            return self._log.run(self._log.transaction(self._log.impatiently(steps)), connection)

    # --- looking

    def standings(self, most: int = ALL) -> list[Standing]:
        """Return how far every subscription is; with `most`, what is behind is counted up to that."""
        found: list[Standing] = self._do(standings(self._log, most))
        return found

    def flow(self, since: int, head: int, checkpoints: Mapping[str, tuple[tuple[str, ...], int, int]]) -> Flow:
        """Return what was recorded between two positions, and what subscriptions have passed since.

        `checkpoints` says for each its types, and the positions where it stood then and now.
        """
        found: Flow = self._do(flow(self._log, since, head, checkpoints))
        return found

    def dead_letters(
        self, filter: Filter | None = None, *, limit: int = ALL, behind: tuple[int, str] = (0, "")
    ) -> list[DeadLetter]:
        """Return the parked events that match, in the log's order: so many, behind a (position, subscription)."""
        found: list[DeadLetter] = self._do(dead_letters(self._log, filter or Filter(), limit, behind))
        return found

    def faults(self, subscription: str | None = None) -> list[Fault]:
        """Return what fails, in groups by subscription, type and the class of the error, the most frequent first."""
        found: list[Fault] = self._do(faults(self._log, subscription))
        return found

    def waiting(self, letter: DeadLetter) -> list[Recorded[Any]]:
        """Return the events that queue behind a parked one, in order, at most a thousand."""
        found: list[Recorded[Any]] = self._do(waiting(self._log, letter))
        return found

    def queued(self, letters: Sequence[DeadLetter]) -> list[int]:
        """Return how many events queue behind each of these."""
        found: list[int] = self._do(queued(self._log, letters))
        return found

    def passages(self, recorded: Recorded[Any]) -> list[Passage]:
        """Return how far every subscription that wants this event is with it."""
        found: list[Passage] = self._do(passages(self._log, recorded))
        return found

    def last_errors(self) -> dict[str, LastError]:
        """Return by subscription what failed last, of what is parked now."""
        found: dict[str, LastError] = self._do(last_errors(self._log))
        return found

    def audit(
        self,
        limit: int = 100,
        *,
        subscription: str | None = None,
        event_id: str | None = None,
        key: str | None = None,
        before: int = ALL,
    ) -> list[AuditEntry]:
        """Return what operators did, the latest first: all of it, or that to one subscription, key or event.

        `before` is the `number` of an entry, to go on from there. An event is found quickly if its key is given too.
        """
        found: list[AuditEntry] = self._do(audit(self._log, limit, subscription, event_id, key, before))
        return found

    def search(self, selection: Selection, *, limit: int = 100, seconds: float = 0.5) -> Found:
        """Return the latest events of a selection, the last first, up to where the log is complete.

        A text in the contents is in no index: then it looks back for about so many seconds, and says how far it came.
        """
        found: Found = self._do(search(self._log, selection, limit, seconds))
        return found

    def stored_types(self) -> list[str]:
        """Return every wire type that the log holds events of."""
        found: list[str] = self._do(self._log.stored_types())
        return found

    def holders(self) -> list[Holder]:
        """Return the open transactions that hold the horizon back, the furthest first."""
        found: list[Holder] = self._do(holders(self._log))
        return found

    def workers(self) -> list[WorkerSeen]:
        """Return the workers that have lived lately."""
        found: list[WorkerSeen] = self._do(workers(self._log))
        return found

    def alive(self) -> list[str]:
        """Return the workers that hold a lease or have been heard of lately."""
        found: list[str] = self._do(alive(self._log))
        return found

    def clock_skew(self) -> float:
        """Return how far this machine's clock is ahead of the database's, in seconds."""
        found: float = self._do(clock(self._log))
        return found

    def windows(self) -> list[Window]:
        """Return for each receiver how long its marks are kept, and for how long its broker may deliver again.

        It asks the brokers. Not to be called in a thread where an event loop runs.
        """

        async def ask() -> list[Window]:
            return [await window(each.subscription.name, each.source) for each in self._declarations.receivers]

        return asyncio.run(ask())

    def pending_migrations(self) -> list[str]:
        """Return the migrations that have not been applied."""
        found: list[str] = self._do(self._log.pending())
        return found

    def owner(self) -> str | None:
        """Return the name of the application to which the log belongs; None before the first migration."""
        found: str | None = self._do(owner(self._log))
        return found

    def horizon(self, via: Any = None) -> int:
        """Return the position up to which the log is complete."""
        found: int = self._do(self._log.horizon()) if via is None else self._log.run(self._log.horizon(), via)
        return found

    def check_events(self, sample: int | None = 100, *, progress: Progress | None = None) -> list[Checked]:
        """Load the oldest and the newest events of every type, so many each, or all; return what was found by type.

        An event in the stream of a declared aggregate that this one does not evolve counts as one that does not load.
        """
        found: list[Checked] = self._do(check_events(self._log, self._declarations.repositories, sample, progress))
        return found

    @contextmanager
    def connection(self) -> Generator[Any]:
        """Lend a connection without a transaction to those who look again and again: `app.read(…, via=connection)`."""
        with self._log.own.lend() as connection:
            yield connection

    # --- dead letters

    def decide(
        self,
        filter: Filter,
        decision: Decision,
        *,
        actor: str,
        reason: str,
        dry_run: bool = False,
        progress: Progress | None = None,
        limit: int = ALL,
        behind: tuple[int, str] = (0, ""),
    ) -> list[DeadLetter]:
        """Retry, skip or discard every parked event that matches; return them in the log's order.

        It is one transaction: where there are very many, `limit` and `behind` cut them into several.

        `retry` tries again now; `skip` gives up the event and goes on with those that queue behind it; `discard`
        drops the event and all that queue behind it. The worker carries it out, in the order of the key. A process that
        waits for a command which is dropped goes on with what it undoes.
        """
        noting = Noting(lambda row: ticket_of(row) is not None) if self._declarations.managers else None
        steps = decide(
            self._log,
            filter,
            decision,
            actor=actor,
            reason=reason,
            dry_run=dry_run,
            progress=progress,
            limit=limit,
            behind=behind,
            noting=noting,
        )
        if noting is None:
            unheeded: list[DeadLetter] = self._change(steps)
            return unheeded
        return self._decide(steps, noting, actor)

    def _decide(self, steps: Steps[list[DeadLetter]], noting: Noting, actor: str) -> list[DeadLetter]:
        undoing = undoing_of(self._log, self._declarations, self._record)

        def work() -> Work[list[DeadLetter]]:
            decided: list[DeadLetter] = yield self._log.impatiently(steps)
            for each in noting.noted:
                if (ticket := ticket_of(each)) is not None:
                    with context(correlation_id=each.correlation_id, causation_id=each.id_text, actor=actor):
                        yield from undoing.handing_in(ticket)
            return decided

        return Carrier(self._log, "deciding", asynchronous=False).directly(work)

    def edit(self, subscription: str, id: str, data: str, *, actor: str, reason: str) -> DeadLetter:
        """Deliver a parked event with other contents (JSON), to this subscription only, and retry it now.

        Raises `UnknownName` if it is not parked, `EventValueError` if its class does not take the contents.
        """
        letters = self.dead_letters(Filter(subscription=subscription, id=id, waiting_only=False))
        if len(letters) != 1:
            raise UnknownName(
                f"{len(letters)} parked events of {subscription!r} have the id {id!r}; ensue dead list shows them"
            )
        self._change(edit(self._log, letters[0], data, actor=actor, reason=reason))
        return letters[0]

    # --- subscriptions

    def pause(self, subscription: str, *, actor: str, reason: str) -> None:
        """Stop a subscription everywhere, within a few seconds; nothing is lost. Raises `UnknownName`."""
        self._change(pause(self._log, subscription, True, actor=actor, reason=reason))

    def resume(self, subscription: str, *, actor: str, reason: str) -> None:
        """Go on with a paused subscription. Raises `UnknownName`."""
        self._change(pause(self._log, subscription, False, actor=actor, reason=reason))

    def retire(self, subscription: str, *, actor: str, reason: str) -> None:
        """Forget a subscription with its checkpoints and what it has parked. Raises `UnknownName`."""
        self._change(retire(self._log, subscription, actor=actor, reason=reason))

    def repartition(self, subscription: str, partitions: int, *, actor: str, reason: str) -> int:
        """Cut a subscription into so many partitions, while it runs; return how many it had. Raises `UnknownName`."""
        steps = repartition(self._log, subscription, partitions, actor=actor, reason=reason)
        found: int = self._change(steps)
        return found
