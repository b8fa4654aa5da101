"""Calling a reaction, or publishing by a relay, again: with all its effects, under a cursor of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec

from ensue.app.declarations import again_of
from ensue.errors import DeclarationError, UnknownName
from ensue.log import Log, Steps
from ensue.subscriptions import Delivery, Handle, Opened, Outcome, Subscription

Progress = Callable[[int, int], None]
Work = Callable[[Subscription, Callable[[], Awaitable[bool]]], Awaitable[None]]
"""Runs a worker for one cursor until something is done."""

_ACTION = "replay with effects"


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Which events a subscription is called with again: those behind a position that match."""

    since: int
    until: int | None
    types: tuple[str, ...]
    keys: tuple[str, ...]


async def call_again(
    log: Log,
    declared: Subscription,
    asked: Asked,
    work: Work,
    *,
    actor: str,
    reason: str,
    progress: Progress | None,
) -> int:
    """Deliver the events again, each with the idempotency key that it had the first time; return how many.

    Raises `DeclarationError` if another one of this subscription was broken off, or has left dead letters.
    """
    horizon: int = await log.own.run_async(log.horizon())
    goal = horizon if asked.until is None else min(asked.until, horizon)
    name = again_of(declared.name)
    calls = Calls(declared, goal, frozenset(asked.keys))

    async def done() -> bool:
        rows = await log.own.run_async(_reached(log, name))
        if progress is not None and rows:
            progress(max(0, min(rows[0][0], goal) - asked.since), max(0, goal - asked.since))
        return bool(rows) and rows[0][0] >= goal

    await log.own.run_async(log.transaction(_begin(log, declared.name, name, asked, goal, actor, reason)))
    wanted = tuple(each for each in declared.types if not asked.types or each in asked.types)
    await work(replace(calls.subscription, name=name, types=wanted, start=asked.since + 1), done)
    await log.own.run_async(log.transaction(_forget(log, name)))
    return calls.count


class Calls:
    """Calls what stands behind a subscription, for the events that are meant, and counts them."""

    def __init__(self, declared: Subscription, goal: int, keys: frozenset[str]) -> None:
        self.count = 0
        self._declared = declared
        self._goal = goal
        self._keys = keys

    @property
    def subscription(self) -> Subscription:
        """The subscription, with this between it and what stands behind it."""
        declared = self._declared
        if declared.handle is not None:
            return replace(declared, handle=partial(self._one, declared.handle))
        if declared.opens is not None:
            return replace(declared, opens=partial(self._open, declared.opens))
        raise UnknownName(f"{declared.name!r} is no reaction and no relay: what it makes of an event comes once")

    async def _one(self, handle: Handle, delivery: Delivery) -> Outcome | None:
        if not self._is_meant(delivery):
            return None
        self.count += 1
        return await handle(self._again(delivery))

    def _open(self, opens: Callable[[], Opened]) -> Opened:
        return Several(self, opens())

    def pick(self, deliveries: Sequence[Delivery]) -> list[Delivery | None]:
        """Return those that are meant, as they are delivered again, and None for the others."""
        found = [self._again(each) if self._is_meant(each) else None for each in deliveries]
        self.count += len(found) - found.count(None)
        return found

    def _is_meant(self, delivery: Delivery) -> bool:
        return delivery.position <= self._goal and (not self._keys or delivery.recorded.key in self._keys)

    def _again(self, delivery: Delivery) -> Delivery:
        return replace(delivery, subscription=self._declared.name, again=True)


class Several:
    """Handles several events together, of which some are meant."""

    def __init__(self, calls: Calls, opened: Opened) -> None:
        self._calls = calls
        self._opened = opened

    async def handle(self, deliveries: Sequence[Delivery]) -> Sequence[Outcome | Exception | None]:
        """Hand on those that are meant."""
        picked = self._calls.pick(deliveries)
        meant = [each for each in picked if each is not None]
        outcomes = iter(await self._opened.handle(meant)) if meant else iter(())
        return [None if each is None else next(outcomes) for each in picked]

    async def close(self) -> None:
        """Close what was opened."""
        await self._opened.close()


def _begin(log: Log, subscription: str, cursor: str, asked: Asked, goal: int, actor: str, reason: str) -> Steps[None]:
    sql = log.dialect.sql
    begun: Asked | None = None
    if (yield sql["reach_of"](subscription=cursor)):  # it was broken off, or has left dead letters
        rows = yield sql["audit"](limit=100, subscription=subscription, event_id=None, key=None, before=2**62)
        details = [row[7] for row in rows if row[2].startswith(_ACTION) and row[7]]
        begun = msgspec.json.decode(details[0], type=Asked) if details else None
    if begun is not None and (
        asked.since < begun.since
        or (asked.types, asked.keys) != (begun.types, begun.keys)
        or asked.until != begun.until
    ):
        raise DeclarationError(
            f"another replay of {subscription!r} was begun, from position {begun.since + 1:,}"
            f"{f', of {begun.types}' if begun.types else ''}{f', of the keys {begun.keys}' if begun.keys else ''}, and "
            f"is not done: ask for the same again to go on with it; or forget it: ensue retire {cursor}"
        )
    yield sql["insert_audit"](
        actor=actor,
        action=f"{_ACTION} from {asked.since + 1} to {goal}",
        subscription=subscription,
        key=None,
        event_id=None,
        reason=reason,
        detail=msgspec.json.encode(begun or asked).decode(),
    )


def _reached(log: Log, name: str) -> Steps[Any]:
    return (yield log.dialect.sql["slowest_partition"](subscription=name))


def _forget(log: Log, name: str) -> Steps[None]:
    """Remove the cursor of a replay that is done, unless something of it is parked."""
    rows = yield log.dialect.sql["reach_of"](subscription=name)
    if rows and not rows[0][2]:
        yield log.dialect.sql["delete_subscription"](name=name)


def asking(since: int, until: int | None, types: Collection[str], keys: Collection[str]) -> Asked:
    """Return which events are meant."""
    return Asked(since=since, until=until, types=tuple(sorted(types)), keys=tuple(sorted(set(keys))))
