"""How an application records on behalf of others: with its handlers within, and after its migration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from ensue.events import Event, Receipt
from ensue.handlers import Guards
from ensue.log import Log, Steps, Transaction

T = TypeVar("T")


class MigratedFirst(Protocol):
    """Puts the migration before an operation if it is wanted on first use."""

    def __call__(self, steps: Steps[T], *, own: bool) -> Steps[T]: ...


@dataclass(frozen=True)
class Recording:
    """What repositories and translations need of an application."""

    log: Log
    guards: Guards
    app_record: Callable[..., Any]
    migrated_first: MigratedFirst

    def alone(self, events: tuple[Event, ...]) -> bool:
        """Tell whether no handler wants these events within the recording transaction."""
        return not self.guards.calls(events)

    def ready(self, steps: Steps[T], via: object) -> Steps[T]:
        """Put a pending migration before an operation, if the application wants it on first use."""
        return self.migrated_first(steps, own=via is None)

    def record(self, events: tuple[Event, ...], stream: str, expected: int, dedupe: str | None, via: object) -> Any:
        """Record in the open transaction: a receipt on a sync connection, an awaitable of it on an async one."""
        return self.app_record(*events, via=via, stream=stream, expected=expected, dedupe=dedupe)

    def once(self, events: tuple[Event, ...], dedupe: str) -> Receipt:
        """Record in a transaction of its own, once and for ever under this key; return the first receipt."""
        with Transaction(self.log) as connection:
            receipt: Receipt = self.app_record(*events, via=connection, dedupe=dedupe)
        return receipt
