"""The topics: made if they are missing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ensue.brokers.kafka.client import admin, errors
from ensue.brokers.kafka.link import connecting, leave
from ensue.brokers.kafka.settings import Settings
from ensue.errors import BrokerRefused, BrokerUnavailable


async def make_topics(settings: Settings, topics: Iterable[str]) -> list[str]:
    """Make the topics that are missing, and return them; raise as `Publisher.open`."""
    client = admin.AIOKafkaAdminClient(**connecting(settings))
    try:
        await client.start()
        missing = sorted(set(topics) - set(await client.list_topics()))
        if missing:
            answer = await client.create_topics(await _new(settings, client, missing))
            _check(settings, answer.topic_errors)
        return missing
    finally:
        await leave(client.close())


async def _new(settings: Settings, client: Any, names: list[str]) -> list[Any]:
    replication = settings.replication or min(3, len((await client.describe_cluster())["brokers"]))
    durable = {"min.insync.replicas": str(replication - 1)} if replication > 2 else {}
    return [admin.NewTopic(name, settings.partitions, replication, topic_configs=durable) for name in names]


def _check(settings: Settings, answers: Iterable[Any]) -> None:
    for topic, code, *text in answers:
        error = errors.for_code(code)
        if error in (errors.NoError, errors.TopicAlreadyExistsError):
            continue
        told = next((part for part in text if part), error.description)
        kind = BrokerUnavailable if error.retriable else BrokerRefused
        raise kind(f"{settings.address}: topic {topic!r} is missing and cannot be made: {told}")
