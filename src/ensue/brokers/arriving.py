"""Arriving: messages that are sent to a web application, where others are fetched."""

from __future__ import annotations

from collections.abc import Sequence

from ensue.brokers.address import Address
from ensue.brokers.broker import Incoming
from ensue.brokers.messages import Received, read
from ensue.brokers.receivers import Receiver
from ensue.brokers.witnessing import taking_in
from ensue.errors import NotMigrated
from ensue.log import Log


class Arrivals:
    """Takes in what is sent to one address, for the receivers that read from there.

    A message that none of them reads, or that nobody can read, is kept by the first one, as a dead letter.
    """

    def __init__(self, receivers: Sequence[Receiver], log: Log) -> None:
        self._receivers = receivers
        self._log = log
        self._address = str(Address(receivers[0].source.address))

    async def take(self, content_type: str, body: bytes) -> None:
        """Take a message in; when it returns, everything is committed. Only the body counts, for only that is signed.

        Raises `NotMigrated` if a receiver is not registered yet, and what the database raises.
        """
        incoming = Incoming(self._address, None, content_type or None, {}, body, None)
        found = [(each, self._read(each, incoming)) for each in self._receivers]
        meant = [(each, message) for each, message in found if _is_wanted(each, message)]
        for receiver, message in meant or found[:1]:
            await self._take(receiver, message)

    def _read(self, receiver: Receiver, incoming: Incoming) -> Received:
        source = receiver.source
        message = read(incoming, source.broker.binding, source.wanted, receiver.subscription.name)
        return receiver.inbox.prepare(message)

    async def _take(self, receiver: Receiver, message: Received) -> None:
        inbox = receiver.inbox
        rows = await self._log.own.run_async(inbox.paused())
        if not rows:
            raise NotMigrated(
                f"receiver {inbox.name!r} is not registered in the log: what it kept for later would be passed over; "
                "run `ensue migrate`"
            )
        with taking_in(self._log, inbox.name, receiver.source.broker.protocol, [message]):
            if rows[0][0]:
                await inbox.keep(message)
            else:
                await inbox.take([message])


def _is_wanted(receiver: Receiver, received: Received) -> bool:
    return received.message is not None and received.message.type in receiver.source.wanted
