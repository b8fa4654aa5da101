"""What an application does about personal data: forgetting persons, and telling where they appear."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from ensue.app.declarations import Declarations
from ensue.events.personal import is_personal
from ensue.history import errands
from ensue.history.appearances import Appearances, Progress, appearances
from ensue.history.forgetting import Forgotten, check_subject, forget
from ensue.history.rewrapping import MasterUse, Rewrapped, masters, rewrap
from ensue.history.rewrapping import Progress as Rewrapping
from ensue.log import Log


class Forgetting:
    """The part of an `App` that is about personal data. What is called `…_async` is for event loops."""

    log: Log
    declarations: Declarations

    def forget(self, subject: str, *, actor: str = "the application", reason: str = "") -> Forgotten:
        """Make everything personal about somebody unreadable, for good and everywhere: destroy the key.

        `subject` is the person's id as text, as the events hold it. From when it returns, the `Personal` fields of that
        person hold their masks wherever ensue reads: events, aggregates, projections that are built again, dead
        letters. What is stored stays as it is to the letter, and so do versions and seals. It cannot be undone, and
        nothing personal is recorded about this subject any more: `SubjectForgotten`. What others have copied (read
        models, brokers, other services, backups of the key) is not touched: `appearances` says who may have.

        It is a transaction of its own, with an entry in the audit table that names `actor` and `reason`. Again for the
        same subject it does no harm. Raises `EventValueError` for what is no subject, and `DatabaseUnavailable` if a
        transaction that has just made this person's key stays open for ten seconds: nothing is forgotten then.
        """
        return errands.run(forget(self.log, check_subject(subject), actor, reason))

    async def forget_async(self, subject: str, *, actor: str = "the application", reason: str = "") -> Forgotten:
        """As `forget`, in an event loop."""
        return await errands.run_async(forget(self.log, check_subject(subject), actor, reason))

    def appearances(self, subject: str, *, progress: Progress | None = None) -> Appearances:
        """Return where somebody appears: events, snapshots, dead letters, timers, processes; forgotten or not.

        It reads the whole log, window by window. Raises `EventValueError` for what is no subject.
        """
        return errands.run(appearances(self.log, check_subject(subject), self._handlers, progress))

    async def appearances_async(self, subject: str, *, progress: Progress | None = None) -> Appearances:
        """As `appearances`, in an event loop."""
        return await errands.run_async(appearances(self.log, check_subject(subject), self._handlers, progress))

    def _handlers(self, types: Collection[str]) -> list[str]:
        return sorted({f"{how} {name}" for how, name, wanted in self._declared() if wanted & set(types)})

    def _declared(self) -> Iterator[tuple[str, str, set[str]]]:
        for each in self.declarations.handlers:
            for event in each.types:
                event.__structure__.look()
            yield each.how, each.name, {event.__type__ for event in each.types if is_personal(event.__type__)}

    def _check_keys(self) -> None:
        """Raise `MasterKeyMissing` if something is declared for personal events, and no key is here to read them."""
        if any(types for _, _, types in self._declared()):
            self.log.personal.vault.required()

    @property
    def keys(self) -> Keys:
        """The persons' keys, and the master keys that wrap them."""
        return Keys(self.log)


class Keys:
    """What operators do with keys."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def masters(self) -> list[MasterUse]:
        """Return which master keys have wrapped persons' keys, and how many each."""
        return self._log.own.run(masters(self._log))

    async def masters_async(self) -> list[MasterUse]:
        """As `masters`, in an event loop."""
        return await self._log.own.run_async(masters(self._log))

    def rotate(self, *, progress: Rewrapping | None = None) -> Rewrapped:
        """Wrap every person's key with the current master key, where another one has wrapped it.

        In batches, each in a transaction; broken off, it goes on where it was. Events are not touched. Raises
        `PersonalDataError` if a key cannot be unwrapped: the master key that has wrapped it must be here, too.
        """
        return errands.run(rewrap(self._log, progress))

    async def rotate_async(self, *, progress: Rewrapping | None = None) -> Rewrapped:
        """As `rotate`, in an event loop."""
        return await errands.run_async(rewrap(self._log, progress))
