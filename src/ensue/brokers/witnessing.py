"""What an observer is told of messages that come in."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

from ensue.brokers.messages import Received
from ensue.events import DONE, Observer, Seen, restored
from ensue.log import Log


def taking_in(log: Log, name: str, system: str, messages: Sequence[Received]) -> AbstractContextManager[None]:
    """Make what is around the taking in of messages that were fetched together."""
    return nullcontext() if log.observer is None else _taking_in(log.observer, name, system, messages)


@contextmanager
def _taking_in(observer: Observer, name: str, system: str, messages: Sequence[Received]) -> Generator[None]:
    with observer.receive(name, system, [_seen(each) for each in messages]) as act:
        yield
        act.end([DONE] * len(messages))


def around(log: Log, name: str, message: Received) -> AbstractContextManager[None]:
    """Make what is around a call of the user's function with a message: what it records follows from that."""
    return restored(message.metadata) if log.observer is None else _observed(log.observer, name, message)


@contextmanager
def _observed(observer: Observer, name: str, message: Received) -> Generator[None]:
    with restored(message.metadata), observer.process(name, [_seen(message)]) as act:
        yield
        act.end([DONE])


def _seen(message: Received) -> Seen:
    about, found = message.metadata, message.message
    type = found.type if found is not None else ""
    return Seen(message.id, type, message.key, about.correlation_id, about.traceparent)
