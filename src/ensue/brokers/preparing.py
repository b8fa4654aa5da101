"""Preparing: making at the brokers what keeps messages for receivers, before they read for the first time."""

from __future__ import annotations

from collections.abc import Iterable

from ensue.brokers.broker import Pushes
from ensue.brokers.receivers import Receiver
from ensue.brokers.receiving import Source
from ensue.errors import BrokerError, BrokerUnavailable, DeclarationError, NotPrepared
from ensue.subscriptions import edges


async def prepare(receivers: Iterable[Receiver]) -> dict[str, list[str]]:
    """Prepare all receivers that can be; return what was made, by receiver.

    A broker that does not answer is asked once only. Raises `NotPrepared` in the end if something is missing.
    """
    made: dict[str, list[str]] = {}
    failures: dict[str, str] = {}
    away: dict[str, BrokerUnavailable] = {}
    for each in receivers:
        name, address = each.subscription.name, each.source.address
        try:
            if address in away:
                raise away[address]
            made[name] = await _prepare(each.source)
        except (BrokerError, DeclarationError) as error:
            failures[name] = str(error)
            if isinstance(error, BrokerUnavailable):
                away[address] = error
    if failures:
        raise NotPrepared(failures, made)
    return made


async def _prepare(source: Source) -> list[str]:
    made: list[str] = []
    if isinstance(source.broker, Pushes):  # the sender keeps what it could not send
        return made
    for topics, group in source.held(0, edges(1)[-1]):
        made += await source.broker.consumer(topics, group).prepare()
    return made
