"""The topics: made if they are missing, and for how long they keep their messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ensue.brokers.kafka.client import admin, errors
from ensue.brokers.kafka.link import connecting, leave, whole
from ensue.brokers.kafka.settings import Settings
from ensue.errors import BrokerRefused, BrokerUnavailable


async def make_topics(settings: Settings, topics: Iterable[str]) -> list[str]:
    """Make the topics that are missing, and return them; raise as `Publisher.open`."""
    client = _administration(settings)
    try:
        await client.start()
        missing = sorted(set(topics) - set(await client.list_topics()))
        if missing:
            answer = await client.create_topics(await _new(settings, client, missing))
            _check(settings, answer.topic_errors)
        return missing
    finally:
        await leave(client._client, client.close)  # noqa: SLF001


def _administration(settings: Settings) -> Any:
    client = admin.AIOKafkaAdminClient(**connecting(settings))
    whole(client._client)  # noqa: SLF001
    return client


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


async def longest_retention(settings: Settings, topics: Sequence[str]) -> float | None:
    """Return the longest retention of the topics, in seconds; None if one is kept without end, or only compacted."""
    resource, topic_kind = admin.config_resource.ConfigResource, admin.config_resource.ConfigResourceType.TOPIC
    wanted = dict.fromkeys(("retention.ms", "cleanup.policy"))
    client = _administration(settings)
    try:
        await client.start()
        answers = await client.describe_configs([resource(topic_kind, topic, wanted) for topic in topics])
    finally:
        await leave(client._client, client.close)  # noqa: SLF001
    longest: float | None = None
    for _, _, _, _, entries in (found for answer in answers for found in answer.resources if found[0] == 0):
        told = {entry[0]: entry[1] for entry in entries}
        retention = int(told.get("retention.ms", -1))
        if retention < 0 or "delete" not in told.get("cleanup.policy", "delete"):
            return None
        longest = max(longest or 0.0, retention / 1000)
    return longest
