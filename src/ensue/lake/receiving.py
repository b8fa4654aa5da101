"""The collector by brokers: it gathers what many services publish, each event once, without a log of its own.

Messages are acknowledged when they have been committed; what comes again is known by its source and id, which are
looked for in the day and the type that it belongs to. The order in a source is that in which messages came, which for
one key is that of the service's log.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from ensue.brokers import Broker, Incoming, broker_at
from ensue.brokers.messages import Received, read
from ensue.contracts.cloudevents import CloudEvent, is_json
from ensue.errors import Overtaken
from ensue.events import Kind, Recorded
from ensue.lake.columns import rows_of
from ensue.lake.lake import Lake
from ensue.lake.seeing import rows
from ensue.lake.table import Checkpoint
from ensue.lake.typed import Typing
from ensue.log import iso

_BATCH = 5000
_WAIT = 1.0
UNREADABLE = "unreadable"
"""The type of a message that is no CloudEvent: it is kept whole, so that nothing is lost."""
_KNOWN = """
select id from events where source = $source and list_contains($ids, id)
    and date between cast($first as date) and cast($last as date)
"""


class Gatherer:
    """Gathers from the topics of one broker, as a group that the broker remembers.

    It may be killed at any moment. Several may run where the broker shares topics among a group.
    """

    def __init__(
        self, lake: Lake, broker: str, topics: Sequence[str], *, group: str = "ensue-lake", types: bool = True
    ) -> None:
        self.lake = lake
        self._broker: Broker = broker_at(broker)
        self._topics = tuple(topics)
        self._group = group
        self._types = types
        self._typings: dict[str, Typing] = {}

    async def gather(self, *, quiet: float | None = None) -> int:
        """Gather until nothing has come for `quiet` seconds, for ever without it; return how many events were new.

        Raises `BrokerUnavailable` and `BrokerRefused`; then it may be called again.
        """
        await asyncio.to_thread(self.lake.begin, "received")
        consumer = self._broker.consumer(self._topics, self._group)
        try:
            await consumer.open()
            gathered, since = 0, time.monotonic()
            while quiet is None or time.monotonic() - since < quiet:
                messages = await consumer.fetch(_BATCH, _WAIT if quiet is None else min(_WAIT, quiet))
                if messages:
                    gathered += await asyncio.to_thread(self._take, messages)
                    await consumer.acknowledge(messages)
                    since = time.monotonic()
            return gathered
        finally:
            await consumer.close()

    def _take(self, messages: Sequence[Incoming]) -> int:
        """Commit what is new of some messages, one source after the other."""
        by_source: dict[str, dict[str, Recorded[Any]]] = {}
        for each in messages:
            received = read(each, self._broker.binding, (), "the lake")
            by_source.setdefault(received.source, {}).setdefault(received.id, _recorded(received))
        return sum(self._add(source, list(events.values())) for source, events in by_source.items())

    def _add(self, source: str, events: list[Recorded[Any]]) -> int:
        while True:
            before = self.lake.events.checkpoint(source)
            known = self._known(source, events)
            fresh = [each for each in events if each.id_text not in known]
            if not fresh:
                self._type(source)
                return 0
            added = rows_of(source, before.sequence, fresh)
            last = max(before.position, *(each.position for each in fresh))
            try:
                self.lake.events.append(added, source, before, Checkpoint(last, before.sequence + len(fresh)))
            except Overtaken:  # by another gatherer: it may have had some of them
                continue
            self._type(source, added)
            return len(fresh)

    def _known(self, source: str, events: Sequence[Recorded[Any]]) -> set[str]:
        days = [each.recorded_at_text[:10] for each in events]
        about = {"source": source, "ids": [each.id_text for each in events], "first": min(days), "last": max(days)}
        return {id for (id,) in rows(_KNOWN, about, events=self.lake.events.data())}

    def _type(self, source: str, added: Any = None) -> None:
        """Fill the tables of types with what has been committed, at first also with what a killed gatherer left out."""
        if self._types:
            if source not in self._typings:
                self._typings[source] = Typing(self.lake.address, source)
                self._typings[source].catch_up()
            elif added is not None:
                self._typings[source].add(added)


def _recorded(received: Received) -> Recorded[Any]:
    """Return a message as a log would hold it; what is no CloudEvent as it was written down."""
    message = received.message
    if message is None:
        return Recorded(
            0, received.id, UNREADABLE, Kind.INTEGRATION.value, None, None, received.key,
            received.written_down().decode(), None, None, None, iso(datetime.now(UTC)),
        )  # fmt: skip
    about = message.metadata
    return Recorded(
        message.position or 0,
        received.id,
        message.type,
        Kind.INTEGRATION.value,
        None,
        None,
        message.key,
        _payload(message),
        None if about.extra is None else bytes(about.extra).decode(),
        None if about.correlation_id == received.id else about.correlation_id,
        about.causation_id,
        iso(message.time or datetime.now(UTC)),
    )


def _payload(message: CloudEvent) -> str:
    if message.data is None:
        return "null"
    if is_json(message.datacontenttype):
        try:
            msgspec.json.decode(message.data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            pass
        else:
            return message.data.decode()
    return msgspec.json.encode({"data_base64": message.data}).decode()
