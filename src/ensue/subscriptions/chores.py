"""What a worker does beside its subscriptions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from ensue.log import Steps
from ensue.log.statements import T


class Carry(Protocol):
    """Carries an operation out over a connection of the worker's."""

    async def __call__(self, steps: Steps[T], /) -> T:
        """Raise `DatabaseUnavailable` if it may succeed later."""
        ...


@dataclass(frozen=True, slots=True)
class Chore:
    """Work that goes on as long as the worker does; after an outage it is begun anew."""

    what: str
    """As in "firing timers: the database is away"."""
    work: Callable[[Carry], Awaitable[None]]
