"""The sealer: a subscription whose effect is the tree, and what signs it and takes it elsewhere from time to time."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ensue.errors import DatabaseUnavailable, DeclarationError, SealError
from ensue.events import Recorded
from ensue.handlers.carrying import Carrier, Work
from ensue.handlers.threads import in_thread
from ensue.log import Log, Steps, passes
from ensue.seals.keys import SigningKey, public_keys, signing_key
from ensue.seals.sealing import extend, sign
from ensue.seals.targets import Party, Target, target
from ensue.subscriptions import Applies, Carry, Chore, Subscription

logger = logging.getLogger("ensue")

NAME = "seal"
"""The subscription's name."""
_BATCH = 2000
_AGAIN = 60.0
"""Seconds after which it is tried again what a target has refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealer:
    """How an application seals its log, as it declares that."""

    key: SigningKey | str | Path | None
    trusted: tuple[str, ...]
    """Public keys besides that of the key: those of keys before it."""
    every: float
    """Seconds after which new events are signed."""
    events: int
    """How many new events are signed at once, without waiting so long."""
    to: tuple[str | Path | Party, ...]

    def __post_init__(self) -> None:
        if self.every <= 0:
            raise DeclarationError(f"seal(every={self.every!r}): more than 0 seconds")
        if not isinstance(self.events, int) or isinstance(self.events, bool) or self.events < 1:
            raise DeclarationError(f"seal(events={self.events!r}): a whole number, at least 1")

    def signing(self) -> SigningKey:
        """Return the key; raise `UnusableKey` if there is none."""
        return signing_key(self.key)

    def keys(self) -> tuple[str, ...]:
        """Return the public keys that are trusted; raise `UnusableKey` if there is none."""
        own = public_keys((), self.key)
        return tuple(dict.fromkeys((*own, *(public_keys(self.trusted) if self.trusted else ()))))

    def targets(self) -> list[Target]:
        """Return where checkpoints are taken."""
        return [target(each) for each in self.to]


class Notary:
    """Waits for what is to be signed, in an event loop."""

    def __init__(self, events: int) -> None:
        self.unsigned = asyncio.Event()
        self.many = asyncio.Event()
        self._events = events
        self._count = 0
        self._loop = asyncio.get_running_loop()

    def added(self, events: int) -> None:
        """Note that events have got their leaves; may be called by any thread."""
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._add, events)

    def _add(self, events: int) -> None:
        self._count += events
        self.unsigned.set()
        if self._count >= self._events:
            self.many.set()

    def begin(self) -> None:
        """Note that what has got its leaves by now is being signed."""
        self._count = 0
        self.unsigned.clear()
        self.many.clear()


class Bell:
    """Tells the notaries of an application what has been added."""

    def __init__(self) -> None:
        self._notaries: set[Notary] = set()
        self._lock = threading.Lock()

    def added(self, events: int) -> None:
        """Note that events have got their leaves."""
        with self._lock:
            notaries = tuple(self._notaries)
        for each in notaries:
            each.added(events)

    @contextmanager
    def notary(self, events: int) -> Generator[Notary]:
        """Yield somebody who is told as long as the block lasts."""
        notary = Notary(events)
        with self._lock:
            self._notaries.add(notary)
        try:
            yield notary
        finally:
            with self._lock:
                self._notaries.discard(notary)


class Sealing:
    """Turns events into leaves, in the transaction that moves the checkpoint."""

    def __init__(self, log: Log, bell: Bell) -> None:
        self._log = log
        self._bell = bell
        self._carrier = Carrier(log, NAME, asynchronous=False)
        bell.added(1)  # perhaps another worker has left something unsigned

    async def apply(self, rows: Sequence[Recorded[Any]], progress: Callable[[], Steps[None]], *, careful: bool) -> None:
        def work() -> Work[int]:
            added = (yield extend(self._log, rows[-1].position)) if rows else 0
            yield progress()
            return added

        try:
            added = await self._carrier.carry(work)
        except SealError as error:  # not for the worker to die of; nothing is sealed before it is mended
            raise DatabaseUnavailable(str(error)) from error
        except Exception as error:
            if passes(error) and not isinstance(error, DatabaseUnavailable):
                raise DatabaseUnavailable(str(error)) from error
            raise
        if added:
            self._bell.added(added)


def sealing(log: Log, bell: Bell) -> Subscription:
    """Return the subscription that seals: it wants all events of the log, from the first."""

    def applies() -> Applies:
        return Sealing(log, bell)

    return Subscription(
        name=NAME, types=(), every_type=True, applies=applies, batch=_BATCH, start="beginning", timeout=None
    )


def signing(log: Log, sealer: Sealer, bell: Bell) -> Chore:
    """Return what a worker does beside: to sign what it has sealed, and to take that elsewhere.

    Raises `UnusableKey` and `DeclarationError` at once.
    """
    key, trusted, targets = sealer.signing(), sealer.keys(), sealer.targets()

    async def work(carry: Carry) -> None:
        with bell.notary(sealer.events) as notary:
            behind = list(targets)
            notary.added(1)  # perhaps there is something that was left
            while True:
                behind = await _take(log, behind, trusted)
                if not await _asked(notary, _AGAIN if behind else None, sealer.every):
                    continue
                notary.begin()
                try:
                    done = await carry(log.transaction(sign(log, key, trusted)))
                except SealError as error:
                    logger.error("%s", error)  # noqa: TRY400 its text says all
                    continue
                if done.signed:
                    logger.info("sealed %d events, up to position %d", done.size, done.position)
                    behind = list(targets)

    return Chore("sealing", work)


async def _asked(notary: Notary, most: float | None, every: float) -> bool:
    """Wait until it is time to sign; tell whether it is, or so many seconds are over without anything new."""
    with suppress(TimeoutError):
        async with asyncio.timeout(most):
            await notary.unsigned.wait()
    if not notary.unsigned.is_set():
        return False
    with suppress(TimeoutError):
        async with asyncio.timeout(every):
            await notary.many.wait()
    return True


async def _take(log: Log, targets: Sequence[Target], trusted: tuple[str, ...]) -> list[Target]:
    """Take what has been signed elsewhere; return the targets that do not have it."""
    behind: list[Target] = []
    for each in targets:
        try:
            await in_thread(each.take, log, trusted)
        except DatabaseUnavailable:
            raise
        except SealError as error:
            logger.warning("%s; again in %.0f s", error, _AGAIN)
            behind.append(each)
    return behind
