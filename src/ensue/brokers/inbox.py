"""The inbox: a message and what it leads to, in one transaction with the mark that it was taken in.

A message that cannot be read, whose handler fails, or whose key has something waiting is recorded in the log instead,
for the receiver's own subscription: there it is retried, parked, edited or discarded like every event, in its order.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import msgspec

from ensue.brokers.messages import Received
from ensue.brokers.witnessing import around
from ensue.errors import DeclarationError, EventValueError, Permanent
from ensue.events import Event, Kind, Written, new_id
from ensue.handlers import Function, in_thread
from ensue.log import Call, Log, Postgres, Steps

_json = msgspec.json.Encoder().encode

MakeTransaction = Callable[[], AbstractContextManager[Any] | AbstractAsyncContextManager[Any]]
"""Opens a transaction on a connection to the log's database, and lends that connection."""


class Effect(Protocol):
    """What messages lead to, in the transaction in which they are marked."""

    asynchronous: bool

    def prepare(self, message: Received) -> Received:
        """Do what can be done before there is a transaction."""
        ...

    def steps(self, messages: Sequence[Received]) -> Taking: ...


@dataclass(frozen=True, slots=True)
class _Do:
    """Call the user's function."""

    function: Function
    event: Event
    inside: Callable[[], AbstractContextManager[None]]
    timeout: float | None


Taking = Generator[Steps[Any] | _Do, Any, None]
"""What is done in the transaction: operations of the log, and calls of the user's function."""


class Calling:
    """Calls the user's function with each event, and the connection if it takes two arguments."""

    def __init__(self, log: Log, function: Function, timeout: float | None) -> None:
        self.asynchronous = function.is_async
        self._log = log
        self._function = function
        self._timeout = timeout

    def prepare(self, message: Received) -> Received:
        """Return it as it is."""
        return message

    def steps(self, messages: Sequence[Received]) -> Taking:
        for message in messages:
            for event in message.events:
                inside = partial(around, self._log, self._function.label, message)
                yield _Do(self._function, event, inside, self._timeout)


class Recording:
    """Records each event in the log; handlers of the log do the rest."""

    def __init__(self, log: Log) -> None:
        self.asynchronous = isinstance(log.dialect, Postgres)
        """Threads would contend for the interpreter with the loop, which fetches and reads the next messages."""
        self._log = log

    def prepare(self, message: Received) -> Received:
        """Write down what will be recorded."""
        try:
            return msgspec.structs.replace(message, written=_all_written(message))
        except EventValueError:  # raised again when it is taken in, where it is known what to do with it
            return message

    def steps(self, messages: Sequence[Received]) -> Taking:
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
        self._transaction = transaction

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

    async def finish(self, message: Received, mark: str) -> None:
        """Do what a recorded message leads to, once: in one transaction with a mark of the event that holds it."""
        if message.problem is not None:
            raise Permanent(message.problem)
        await self._carry(partial(self._finishing, self.prepare(message), mark))

    def _taking(self, messages: Sequence[Received]) -> Taking:
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

    def _diverting(self, messages: Sequence[Received]) -> Taking:
        if fresh := (yield from self._mark(messages)):
            yield self._append_noted(fresh)

    def _finishing(self, message: Received, mark: str) -> Taking:
        if (yield self._receive([["", mark]])):
            yield from self._effect.steps([message])

    # --- the log's part

    def _mark(self, messages: Sequence[Received]) -> Generator[Steps[Any] | _Do, Any, list[Received]]:
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

    # --- carrying it out

    async def _carry(self, make: Callable[[], Taking]) -> None:
        if not self._effect.asynchronous:
            await in_thread(self._carry_directly, make)
            return
        context = self._transaction()
        if not isinstance(context, AbstractAsyncContextManager):
            raise DeclarationError(
                f"receiver {self.name!r} is async, and transaction= makes {type(context).__name__}, which is not: "
                "give it an async one, or make the handler sync"
            )
        async with context as via:
            await _drive_async(make(), self._log, via)

    def _carry_directly(self, make: Callable[[], Taking]) -> None:
        context = self._transaction()
        if not isinstance(context, AbstractContextManager):
            raise DeclarationError(
                f"receiver {self.name!r} is sync, and transaction= makes {type(context).__name__}, which is async: "
                "give it a sync one, or make the handler async"
            )
        with context as via:
            _drive(make(), self._log, via)


def _drive(taking: Taking, log: Log, via: Any) -> None:
    value: Any = None
    try:
        while True:
            step = taking.send(value)
            if isinstance(step, _Do):
                with step.inside():
                    value = step.function.directly(step.event, via)
                if inspect.isawaitable(value):
                    _close(value)
                    raise Permanent(
                        f"{step.function.label!r} is called as a sync function and returned an awaitable: make it "
                        "async def, so that it is awaited"
                    )
            else:
                value = log.run(step, via)
    except StopIteration:
        return


async def _drive_async(taking: Taking, log: Log, via: Any) -> None:
    value: Any = None
    try:
        while True:
            step = taking.send(value)
            if isinstance(step, _Do):
                with step.inside():
                    async with asyncio.timeout(step.timeout):
                        value = await step.function.directly(step.event, via)
            else:
                value = await log.run(step, via)
    except StopIteration:
        return


def _close(awaitable: Any) -> None:
    close = getattr(awaitable, "close", None)
    if close is not None:
        close()


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


def forget(log: Log, consumer: str, seconds: float) -> Steps[int]:
    """Forget what was taken in so many seconds ago, at most a thousand; return how many that were."""
    rows = yield log.dialect.sql["forget_received"](consumer=consumer, seconds=seconds, limit=1000)
    return len(rows)
