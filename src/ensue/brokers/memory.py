"""A broker inside the process, for tests and for trying out: `memory://name`. It ends with the process."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import ClassVar

from ensue.brokers.address import Address
from ensue.brokers.broker import Incoming, Outgoing, Refused
from ensue.contracts.cloudevents import NATS, Binding


class _Topics:
    """What all publishers and consumers of one name share, on one event loop or several."""

    def __init__(self) -> None:
        self.messages: dict[str, list[Outgoing]] = defaultdict(list)
        self.ids: dict[str, set[str]] = defaultdict(set)
        self.acknowledged: dict[tuple[str, str], int] = defaultdict(int)
        """By topic and group: how many of its messages."""


_all: dict[str, _Topics] = defaultdict(_Topics)
_LOOK_EVERY = 0.005


class Memory:
    """Topics in memory: nothing published is lost while the process lives, and an id is taken once."""

    protocol: ClassVar[str] = "memory"
    binding: ClassVar[Binding] = NATS
    shares: ClassVar[bool] = False

    def __init__(self, address: Address) -> None:
        address.check_options()
        self._topics = _all[address.host]

    def publisher(self) -> MemoryPublisher:
        return MemoryPublisher(self._topics)

    def consumer(self, topics: Sequence[str], group: str) -> MemoryConsumer:
        return MemoryConsumer(self._topics, topics, group)


class MemoryPublisher:
    """Appends to the topics."""

    def __init__(self, topics: _Topics) -> None:
        self._topics = topics

    async def open(self, topics: Sequence[str]) -> None:
        """Nothing: a topic is there as soon as it is used."""

    async def publish(self, messages: Sequence[Outgoing]) -> list[Refused | None]:
        for each in messages:
            if each.id not in (known := self._topics.ids[each.topic]):
                known.add(each.id)
                self._topics.messages[each.topic].append(each)
        await asyncio.sleep(0)
        return [None] * len(messages)

    async def close(self) -> None:
        """Nothing."""


class MemoryConsumer:
    """Reads the topics one after the other, from what its group has acknowledged."""

    def __init__(self, topics: _Topics, names: Sequence[str], group: str) -> None:
        self._topics = topics
        self._names = names
        self._group = group
        self._next: dict[str, int] = {}

    async def prepare(self) -> list[str]:
        """Nothing: a topic keeps everything for everybody."""
        return []

    async def open(self) -> None:
        self._next = {name: self._topics.acknowledged[name, self._group] for name in self._names}

    async def fetch(self, most: int, wait: float) -> list[Incoming]:
        loop = asyncio.get_running_loop()
        until = loop.time() + wait
        while not (found := self._take(most)) and loop.time() < until:  # noqa: ASYNC110 publishers may be on other loops
            await asyncio.sleep(_LOOK_EVERY)
        return found

    def _take(self, most: int) -> list[Incoming]:
        found: list[Incoming] = []
        for name in self._names:
            start = self._next[name]
            for number, each in enumerate(self._topics.messages[name][start : start + most - len(found)], start + 1):
                found.append(Incoming(name, each.key, each.content_type, each.headers, each.body, number))
                self._next[name] = number
        return found

    async def acknowledge(self, messages: Sequence[Incoming]) -> None:
        for each in messages:
            place = each.topic, self._group
            self._topics.acknowledged[place] = max(self._topics.acknowledged[place], each.handle)

    async def release(self, messages: Sequence[Incoming]) -> None:
        for each in messages:
            self._next[each.topic] = min(self._next[each.topic], each.handle - 1)

    async def close(self) -> None:
        """Nothing: what is not acknowledged is read by the next consumer."""
