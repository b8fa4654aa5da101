"""What a worker sees of whatever works on one of its partitions."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from ensue.events import Recorded
from ensue.subscriptions.declared import Subscription
from ensue.subscriptions.leasing import Lease
from ensue.subscriptions.parking import Checkpoint, Due, Parked, Unparked


class Fed(Protocol):
    """What the tail feeds, or somebody else reads for: it takes events in."""

    @property
    def types(self) -> frozenset[str]: ...

    @property
    def read_to(self) -> int:
        """Everything up to here has been taken in."""
        ...

    @property
    def alone(self) -> asyncio.Event:
        """Set while it is not fed by the tail and reads on its own."""
        ...

    @property
    def roomy(self) -> asyncio.Event:
        """Set while it takes more in."""
        ...

    def take(self, rows: Sequence[Recorded[Any]], upto: int) -> None:
        """Take in the next events of its types, complete up to a position; what it knows already is passed over."""
        ...


class Works(Fed, Protocol):
    """What works on a leased partition: on events one by one, or many in one transaction."""

    @property
    def subscription(self) -> Subscription: ...

    @property
    def lease(self) -> Lease: ...

    @property
    def attached(self) -> bool:
        """Fed by the tail."""
        ...

    @property
    def stopping(self) -> bool:
        """Picks up nothing more."""
        ...

    @property
    def paused(self) -> bool: ...

    @property
    def moved(self) -> set[str]:
        """Keys whose parking has changed since the worker began to look for due ones: what it finds of them is old."""
        ...

    @property
    def broken(self) -> BaseException | None:
        """An error of its own, which its worker raises."""
        ...

    def resume(self, due: Due) -> None:
        """Go on with a parked key whose time has come."""
        ...

    def pause(self, paused: bool) -> None:
        """Begin nothing more, or go on."""
        ...

    def collect(self) -> tuple[Checkpoint | None, dict[str, Parked | Unparked]]:
        """Return what its worker has to save for it: one of the next three comes back for each checkpoint."""
        ...

    def saved(self, checkpoint: int) -> None:
        """Note that what was collected has been written down for good."""
        ...

    def keep(self, parks: dict[str, Parked | Unparked]) -> None:
        """Take back what could not be saved, perhaps."""
        ...

    def say_less(self, error: Exception) -> bool:
        """Say less of what could not be stored because of an error; tell whether that is possible."""
        ...

    def rewind(self) -> None:
        """After an outage: begin again where the database says that it stands."""
        ...

    async def stop(self, grace: float) -> None:
        """Finish what is in hand within the grace (seconds)."""
        ...

    def abandon(self) -> None:
        """Stop at once: the lease is lost."""
        ...
