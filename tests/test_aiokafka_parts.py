"""The parts of aiokafka that are used although it does not promise them: a new release may take them away.

There is no public way: a consumer and an admin client do not lend their connections, which have to be hung up when the
broker is gone; a commit that is cancelled leaves a request behind whose failure nobody looks at; and a producer that is
idempotent waits for ever, when it is stopped, for what it cannot send.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiokafka  # type: ignore[import-untyped,unused-ignore]
import pytest
from aiokafka.admin import AIOKafkaAdminClient  # type: ignore[import-untyped,unused-ignore]
from aiokafka.consumer.group_coordinator import GroupCoordinator  # type: ignore[import-untyped,unused-ignore]
from aiokafka.producer.message_accumulator import MessageBatch  # type: ignore[import-untyped,unused-ignore]

import ensue.brokers.kafka
from ensue.brokers.kafka.client import conn, metadata

NOBODY = "127.0.0.1:1"
Parts = dict[str, tuple[Any, str]]


@pytest.fixture
async def parts() -> AsyncIterator[Parts]:
    """Yield the private parts: how each is reached, and in what it is looked for."""
    consumer = aiokafka.AIOKafkaConsumer("topic", bootstrap_servers=NOBODY, group_id="group")
    producer = aiokafka.AIOKafkaProducer(bootstrap_servers=NOBODY)
    admin = AIOKafkaAdminClient(bootstrap_servers=NOBODY)
    async with AsyncExitStack() as stack:
        for close in (consumer.stop, producer.stop, admin.close):
            stack.push_async_callback(close)
        accumulator, sender = _part(producer, "_message_accumulator"), _part(producer, "_sender")
        yield {
            "AIOKafkaConsumer._client": (consumer, "_client"),
            "AIOKafkaConsumer._coordinator": (consumer, "_coordinator"),
            "AIOKafkaConsumer._subscription": (consumer, "_subscription"),
            "SubscriptionState.subscription": (_part(consumer, "_subscription"), "subscription"),
            "Subscription.assignment": (_part(consumer, "_subscription").subscription, "assignment"),
            "AIOKafkaClient.bootstrap": (_part(consumer, "_client"), "bootstrap"),
            "AIOKafkaClient.close": (_part(consumer, "_client"), "close"),
            "GroupCoordinator.ensure_coordinator_known": (GroupCoordinator, "ensure_coordinator_known"),
            "GroupCoordinator._commit_lock": (_set_by(GroupCoordinator), "_commit_lock"),
            "GroupCoordinator._do_commit_offsets": (GroupCoordinator, "_do_commit_offsets"),
            "AIOKafkaProducer.client": (producer, "client"),
            "AIOKafkaProducer._message_accumulator": (producer, "_message_accumulator"),
            "AIOKafkaProducer._sender": (producer, "_sender"),
            "Sender.sender_task": (sender, "sender_task"),
            "MessageAccumulator._batches": (accumulator, "_batches"),
            "MessageAccumulator._pending_batches": (accumulator, "_pending_batches"),
            "MessageBatch.done_noack": (MessageBatch, "done_noack"),
            "AIOKafkaAdminClient._client": (admin, "_client"),
            "aiokafka.conn.create_conn": (conn, "create_conn"),
            "aiokafka.protocol.metadata.MetadataRequest": (metadata, "MetadataRequest"),
        }


def _part(whole: Any, name: str) -> Any:
    assert hasattr(whole, name), changed([f"{type(whole).__name__}.{name}"])
    return getattr(whole, name)


def _set_by(kind: type[Any]) -> SimpleNamespace:
    """Return the names that a class uses when one is made; a coordinator cannot be made alone."""
    return SimpleNamespace(**dict.fromkeys(kind.__init__.__code__.co_names))


def changed(missing: list[str]) -> str:
    return (
        f"aiokafka {version('aiokafka')} has no {', '.join(missing)} any more, or not as ensue.brokers.kafka "
        "uses it: look what has taken its place, and whether there is a public way by now"
    )


async def test_the_parts_that_are_used_are_there(parts: Parts) -> None:
    missing = [name for name, (whole, part) in parts.items() if not hasattr(whole, part)]
    assert not missing, changed(missing)


async def test_they_take_what_they_are_given(parts: Parts) -> None:
    """What is called has the parameters that it is called with."""
    calls: dict[str, tuple[list[Any], dict[str, Any]]] = {
        "GroupCoordinator._do_commit_offsets": ([None, None, {}], {}),
        "GroupCoordinator.ensure_coordinator_known": ([None], {}),
        "AIOKafkaClient.bootstrap": ([], {}),
        "AIOKafkaClient.close": ([], {}),
        "MessageBatch.done_noack": ([None], {}),
        "aiokafka.conn.create_conn": (["host", 1], {"client_id": "", "request_timeout_ms": 1, "ssl_context": None}),
    }
    refused: list[str] = []
    for name, (positional, named) in calls.items():
        whole, part = parts[name]
        try:
            inspect.signature(getattr(whole, part)).bind(*positional, **named)
        except TypeError as error:
            refused.append(f"{name} ({error})")
    assert not refused, changed(refused)


def test_none_is_used_that_is_not_listed_here() -> None:
    """Who needs another private part of aiokafka lists it above."""
    used: set[str] = set()
    (folder,) = ensue.brokers.kafka.__path__
    for file in Path(folder).glob("*.py"):
        for line in file.read_text().splitlines():
            if "noqa: SLF001" in line:
                used |= set(re.findall(r"\.(_[a-z]\w*)", line.partition("#")[0]))
    listed = set(re.findall(r'^            "\w+\.(_\w+)"', Path(__file__).read_text(), re.MULTILINE))
    assert used == listed
