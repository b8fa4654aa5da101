"""How long a broker may deliver a message again, and whether a receiver keeps its marks for as long."""

from __future__ import annotations

import asyncio
import logging

import msgspec

from ensue.brokers.address import Address
from ensue.brokers.broker import Redelivers
from ensue.brokers.receiving import Source
from ensue.errors import EnsueError
from ensue.subscriptions import edges

logger = logging.getLogger("ensue")

_AGAIN_AFTER = 3600.0
"""Seconds after which the broker is asked again: its settings may be changed meanwhile."""
_AWAY_FOR = 30.0
"""Seconds after which a broker that did not answer is asked again."""


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """A receiver's marks beside its broker's messages."""

    subscription: str
    keep: float
    """Seconds for which it is known that a message was taken in."""
    redelivers_for: float | None
    """Seconds for which the broker may deliver a message again; None: it sets no limit, or does not tell."""
    failure: str | None
    """Why the broker cannot be asked now."""

    @property
    def too_short(self) -> bool:
        """A message may come again when its mark is gone, and would have its effect twice."""
        return self.redelivers_for is not None and self.keep < self.redelivers_for


async def window(name: str, source: Source) -> Window:
    """Ask the broker of a receiver."""
    broker, (first, after) = source.broker, edges(1)
    topics = [topic for held, _ in source.held(first, after - 1) for topic in held]
    redelivers_for = failure = None
    if isinstance(broker, Redelivers):
        try:
            redelivers_for = await broker.redelivers_for(topics)
        except EnsueError as error:
            failure = str(error)
    return Window(subscription=name, keep=source.keep, redelivers_for=redelivers_for, failure=failure)


async def watch(name: str, source: Source) -> None:
    """Say it in the log as long as a receiver's marks are kept for too short a time."""
    while True:
        found = await window(name, source)
        if found.too_short:
            logger.warning(
                "%s: its marks are kept for %d s, and %s may deliver a message again for %d s: what comes when its "
                "mark is gone has its effect twice. Use a longer keep=, or let the broker keep messages for less",
                name,
                found.keep,
                Address(source.address),
                found.redelivers_for,
            )
        await asyncio.sleep(_AGAIN_AFTER if found.failure is None else _AWAY_FOR)
