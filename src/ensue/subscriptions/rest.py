"""Whether a runner picks up events at present, and what is to be said where it does not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ensue.subscriptions.failing import reason_to_keep
from ensue.subscriptions.outcomes import Hold

logger = logging.getLogger("ensue")


class Rest:
    """A runner rests while it is paused, when it stops, and as long as what its handler needs is away."""

    def __init__(self, name: str, changed: Callable[[], None]) -> None:
        self.paused = False
        self.stopping = False
        self.reason: str | None = None
        """Why it is held, until something is handled again."""
        self.untold = False
        """That it is held, or is no more, has yet to be saved."""
        self._name = name
        self._changed = changed
        self._hold: asyncio.TimerHandle | None = None

    @property
    def now(self) -> bool:
        """Nothing more is picked up at present."""
        return self.paused or self.stopping or self._hold is not None

    @property
    def again_at(self) -> float | None:
        """When its handler is called again, by the event loop's clock; None unless it is held."""
        return None if self._hold is None else self._hold.when()

    def begin(self, hold: Hold, then: Callable[[], None]) -> None:
        """Pick up nothing more for a while: what the handler needs is away."""
        if self._hold is None:
            delay, reason = hold.delay, reason_to_keep(hold.reason)
            logger.warning("%s: %s; again in %.1f s", self._name, reason, delay)
            self._hold = asyncio.get_running_loop().call_later(delay, self._end, then)
            self.reason, self.untold = reason or "it does not say why", True
            self._changed()

    def _end(self, then: Callable[[], None]) -> None:
        self._hold = None
        then()

    def worked(self) -> None:
        """Say that there is something to save; what is handled while it does not rest says that it is held no more."""
        if self.reason is not None and self._hold is None:
            self.reason, self.untold = None, True
        self._changed()

    def stop(self) -> None:
        """Rest for good."""
        self.stopping = True

    def cancel(self) -> None:
        """Let nothing end it."""
        if self._hold is not None:
            self._hold.cancel()
