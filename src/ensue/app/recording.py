"""How an application records: under its rule, with its handlers within, after its migration."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

from ensue.errors import DeclarationError
from ensue.events import Event, Receipt
from ensue.handlers import Guards
from ensue.log import ANY, AggregateRule, Expected, Log, Steps, Transaction

T = TypeVar("T")

_several: ContextVar[Log | None] = ContextVar("ensue_several_aggregates", default=None)
"""The log in which transactions may change several aggregates here."""


class First(Protocol):
    """Puts before an operation what must be done first, if anything must; `own`: on a connection of ensue's own."""

    def __call__(self, steps: Steps[T], *, own: bool) -> Steps[T]: ...


class Recording:
    """Records in an application's log.

    It holds what that takes and not the application, which would otherwise hold itself, with its idle connections,
    until the collector of cycles comes by.
    """

    def __init__(self, log: Log, guards: Guards, rule: AggregateRule, first: First | None = None) -> None:
        self._log = log
        self._guards = guards
        self._rule: AggregateRule = rule
        self._first = first

    @property
    def by_workers(self) -> Recording:
        """The same for what only a worker calls: it has seen to it that there is nothing to do first."""
        return Recording(self._log, self._guards, self._rule)

    def alone(self, events: tuple[Event, ...]) -> bool:
        """Tell whether no handler wants these events within the recording transaction."""
        return not self._guards.calls(events)

    def ready(self, steps: Steps[T], via: object) -> Steps[T]:
        """Put a pending migration before an operation, if the application wants it on first use."""
        return steps if self._first is None else self._first(steps, own=via is None)

    def record(
        self,
        events: tuple[Event, ...],
        via: Any,
        *,
        stream: str | None = None,
        expected: Expected = ANY,
        dedupe: str | None = None,
    ) -> Any:
        """Record in the open transaction: a receipt on a sync connection, an awaitable of it on an async one."""
        log = self._log
        rule = self._rule if stream is None or _several.get() is not log else "off"
        steps = log.append(events, stream=stream, expected=expected, dedupe=dedupe, rule=rule)
        if self._first is not None:
            steps = self._first(steps, own=False)
        calls = self._guards.calls(events)
        return self._guards.record(log, steps, calls, via) if calls else log.run(steps, via)

    def once(self, events: tuple[Event, ...], dedupe: str) -> Receipt:
        """Record in a transaction of its own, once and for ever under this key; return the first receipt."""
        with Transaction(self._log) as connection:
            receipt: Receipt = self.record(events, connection, dedupe=dedupe)
        return receipt

    @contextmanager
    def several_aggregates(self, why: str) -> Generator[None]:
        """Let transactions inside the block change more than one aggregate; raise `DeclarationError` if none says why.

        It follows `contextvars`.
        """
        if not isinstance(why, str) or not why.strip():
            raise DeclarationError("several_aggregates(…): say why both must change together")
        token = _several.set(self._log)
        try:
            yield
        finally:
            _several.reset(token)
