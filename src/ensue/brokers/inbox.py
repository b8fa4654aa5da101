"""The inbox: a message and what it leads to, in one transaction with the mark that it was taken in.

A message that cannot be read, whose handler fails, or whose key has something waiting is recorded in the log instead,
for the receiver's own subscription: there it is retried, parked, edited or discarded like every event, in its order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

import msgspec

from ensue.brokers.messages import Received
from ensue.brokers.witnessing import around
from ensue.errors import EventValueError, Permanent
from ensue.events import Event, Kind, Written, new_id
from ensue.handlers import Function
from ensue.handlers.carrying import Carrier, Do, MakeTransaction, Work
from ensue.log import Call, Log, Postgres, Steps

_json = msgspec.json.Encoder().encode


class Effect(Protocol):
    """What messages lead to, in the transaction in which they are marked."""

    asynchronous: bool
    timeout: float | None
    """Seconds that a call of an async function may take."""

    def prepare(self, message: Received) -> Received:
        """Do what can be done before there is a transaction."""
        ...

    def steps(self, messages: Sequence[Received]) -> Work[None]: ...


class Calling:
    """Calls the user's function with each event, and the connection if it takes two arguments."""

    def __init__(self, log: Log, function: Function, timeout: float | None) -> None:
        self.asynchronous = function.is_async
        self.timeout = timeout
        self._log = log
        self._function = function

    def prepare(self, message: Received) -> Received:
        """Return it as it is."""
        return message

    def steps(self, messages: Sequence[Received]) -> Work[None]:
        for message in messages:
            for event in message.events:
                inside = partial(around, self._log, self._function.label, message)
                yield Do(partial(self._function.directly, event), inside, self._function.label)


class Recording:
    """Records each event in the log; handlers of the log do the rest."""

    timeout: float | None = None

    def __init__(self, log: Log) -> None:
        self.asynchronous = isinstance(log.dialect, Postgres)
        """Threads would contend for the interpreter with the loop, which fetches and reads the next messages."""
        self._log = log

    def prepare(self, message: Received) -> Received:
        """Write down what will be recorded."""
        with suppress(EventValueError):  # raised again when it is taken in, where it is known what to do with it
            message.written = _all_written(message)
        return message

    def steps(self, messages: Sequence[Received]) -> Work[None]:
        written = [one for each in messages for one in each.written or _all_written(each)]
        if written:
            yield _append(self._log, written)


class Inbox:
    """One receiver's inbox."""

    def __init__(self, log: Log, name: str, type: str, effect: Effect, transaction: MakeTransaction) -> None:
        self.name = name
        self.type = type
        """The wire type under which messages are recorded that cannot be handled directly."""
        self._log = log
        self._effect = effect
        self._carry = Carrier(
            log, name, asynchronous=effect.asynchronous, transaction=transaction, timeout=effect.timeout
        ).carry

    def prepare(self, message: Received) -> Received:
        """Return a message ready to be taken in; what can be done before there is a transaction has been done."""
        return self._effect.prepare(message)

    async def take(self, messages: Sequence[Received]) -> None:
        """Take messages in, in their order, each once; all together, and one by one if that fails.

        When it returns, everything is committed: done, or recorded to be done. It raises what the database raises.
        """
        try:
            await self._carry(partial(self._taking, messages))
        except Exception:  # noqa: BLE001 which of them it was shows when they are taken in alone
            for message in messages:
                try:
                    await self._carry(partial(self._taking, [message]))
                except Exception:  # noqa: BLE001 recorded: its subscription calls the handler again, and tells why
                    await self._carry(partial(self._diverting, [message]))

    async def keep(self, message: Received) -> None:
        """Record a message, once, for the receiver's subscription to handle it when it goes on."""
        await self._carry(partial(self._diverting, [message]))

    def paused(self) -> Steps[Any]:
        """Tell whether the receiver's subscription is paused; no row: it is not registered."""
        return (yield self._log.dialect.sql["is_paused"](name=self.name))

    async def finish(self, message: Received, mark: str) -> None:
        """Do what a recorded message leads to, once: in one transaction with a mark of the event that holds it."""
        if message.problem is not None:
            raise Permanent(message.problem)
        await self._carry(partial(self._finishing, self.prepare(message), mark))

    def _taking(self, messages: Sequence[Received]) -> Work[None]:
        fresh = yield from self._mark(messages)
        if not fresh:
            return
        keys = list(dict.fromkeys(each.key for each in fresh))
        rows = yield self._waiting(keys)
        waiting = {key for (key,) in rows}
        direct: list[Received] = []
        later: list[Received] = []
        for each in fresh:
            if each.problem is not None or each.key in waiting:
                waiting.add(each.key)
                later.append(each)
            else:
                direct.append(each)
        yield from self._effect.steps(direct)
        if later:
            yield self._append_noted(later)

    def _diverting(self, messages: Sequence[Received]) -> Work[None]:
        if fresh := (yield from self._mark(messages)):
            yield self._append_noted(fresh)

    def _finishing(self, message: Received, mark: str) -> Work[None]:
        if (yield self._receive([["", mark]])):
            yield from self._effect.steps([message])

    # --- the log's part

    def _mark(self, messages: Sequence[Received]) -> Work[list[Received]]:
        first: dict[tuple[str, str], Received] = {}
        for each in messages:
            first.setdefault((each.source, each.id), each)
        rows = yield self._receive(list(first))
        new = {(source, id) for source, id in rows}
        return [each for identity, each in first.items() if identity in new]

    def _receive(self, rows: Sequence[Sequence[str]]) -> Steps[Any]:
        yield from self._log.begin()
        return (yield Call(self._log.dialect.sql["receive"], (self.name, _json(rows).decode())))

    def _waiting(self, keys: Sequence[str]) -> Steps[Any]:
        sql = self._log.dialect.sql["waiting_keys"]
        return (yield sql(keys=_json(keys).decode(), subscription=self.name, type=self.type))

    def _append_noted(self, messages: Sequence[Received]) -> Steps[Any]:
        written: list[Written] = []
        for each in messages:
            written.append((yield from self._noted(each)))  # noqa: PERF401 yields
        return (yield from _append(self._log, written))

    def _noted(self, message: Received) -> Steps[Written]:
        about, id = message.metadata, new_id()
        if (secret := message.concealing(id)) is not None:
            message = message.concealed((yield from self._log.personal.conceal_one(secret, masking=True)))
        return Written(
            id,
            self.type,
            Kind.DOMAIN,
            msgspec.Raw(message.written_down()),
            message.key,
            about.extra,
            about.correlation_id,
            about.causation_id,
        )


def _append(log: Log, written: list[Written]) -> Steps[Any]:
    ready = yield from log.personal.conceal(written)
    return (
        yield from log.dialect.append(ready, stream=None, expected=None, dedupe=None, log=log.place.app, rule="off")
    )


def _all_written(message: Received) -> tuple[Written, ...]:
    return tuple(_written(message, event) for event in message.events)


def _written(message: Received, event: Event) -> Written:
    about = message.metadata
    cls = type(event)
    return Written(
        new_id(),
        cls.__type__,
        cls.__kind__,
        msgspec.Raw(cls.__structure__.encode(event)),
        message.key,
        about.extra,
        about.correlation_id,
        about.causation_id,
    )


async def forget_all(log: Log, consumer: str, seconds: float, stopped: Callable[[], bool]) -> None:
    """Forget what was taken in so many seconds ago, a part of it in each transaction, unless it is told to stop."""
    forgotten = 1
    while forgotten and not stopped():
        forgotten = await log.own.run_async(log.transaction(forget(log, consumer, seconds)))


def forget(log: Log, consumer: str, seconds: float) -> Steps[int]:
    """Forget what was taken in so many seconds ago, at most a thousand; return how many that were."""
    rows = yield log.dialect.sql["forget_received"](consumer=consumer, seconds=seconds, limit=1000)
    return len(rows)
