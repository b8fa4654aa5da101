"""Timers that a handler asks for by its delivery: set once it has succeeded, recorded once however often it is called.

A handler is called at least once. So a timer is named by the delivery's idempotency key, and that is also the dedupe
key under which its event is recorded: set again, before or after it has fired, it comes once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from ensue.events import Event
from ensue.handlers.timers.alarm import Alarm
from ensue.handlers.timers.setting import Setting, set_timers, setting
from ensue.log import Log
from ensue.subscriptions import Delivery, When

OWNER = "delivery"


class Asking(Protocol):
    """What a reaction does with the timers that its function asks for."""

    def __call__(self, asked: list[Setting]) -> Callable[[Delivery, When, Event], None]:
        """Return what notes a timer in a list."""
        ...

    async def set(self, asked: Sequence[Setting]) -> None:
        """Set them, in a transaction of its own."""
        ...


class Timers:
    """Sets timers for handlers, in the log of an application."""

    def __init__(self, log: Log, alarm: Alarm, check: Callable[[Event], None]) -> None:
        self._log = log
        self._alarm = alarm
        self._check = check

    def __call__(self, asked: list[Setting]) -> Callable[[Delivery, When, Event], None]:
        def ask(delivery: Delivery, when: When, event: Event) -> None:
            self._check(event)
            name = f"{delivery.idempotency_key}/{len(asked) + 1}"
            asked.append(msgspec.structs.replace(setting(when, event, owner=OWNER), name=name))

        return ask

    async def set(self, asked: Sequence[Setting]) -> None:
        await self._log.own.run_async(self._log.transaction(set_timers(self._log, asked)))
        for each in asked:
            if each.at is None:
                self._alarm.due_in(each.seconds)
