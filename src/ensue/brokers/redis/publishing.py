"""Publishing to streams of Redis: one pipeline for all messages of a call."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

from redis import exceptions

from ensue.brokers.broker import Outgoing, Refused
from ensue.brokers.redis.link import Command, Link
from ensue.brokers.redis.settings import Settings
from ensue.errors import BrokerRefused, BrokerUnavailable

BODY, KEY = "data", "key"
"""The fields of an entry beside its headers."""

_LARGEST_USUAL = 512 * 1024 * 1024


class RedisPublisher:
    """Publishes to the streams of one server."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._link: Link | None = None
        self._largest = _LARGEST_USUAL
        self._how = ("MAXLEN", "~", settings.maxlen, "*") if settings.maxlen else ("*",)

    async def open(self, topics: Sequence[str]) -> None:
        link = self._linked()
        try:
            await check_server(link, topics)
            self._largest = await _largest(link)
        except BaseException as error:
            await self.close()
            if isinstance(error, exceptions.ResponseError):
                raise link.failure(error) from error
            raise

    async def publish(self, messages: Sequence[Outgoing]) -> list[Refused | None]:
        outcomes = [self._unfit(message) for message in messages]
        fit = [index for index, outcome in enumerate(outcomes) if outcome is None]
        if not fit:
            return outcomes
        link = self._linked()
        commands: list[Command] = [self._written(messages[index]) for index in fit]
        seconds = self._settings.address.timeout
        if self._settings.replicas:
            commands.append(("WAIT", self._settings.replicas, int(seconds * 800)))
        try:
            answers = await link.together(commands)
        except BrokerUnavailable as error:
            if error.__suppress_context__ and error.__cause__ is None:  # out of time
                return [outcome or _late(seconds) for outcome in outcomes]
            raise
        for index, answer in zip(fit, answers, strict=False):
            outcomes[index] = _outcome(answer)
        if self._settings.replicas:
            outcomes = self._replicated(outcomes, fit, answers[-1])
        if any(isinstance(answer, exceptions.ReadOnlyError) for answer in answers):
            await self.close()  # the next connection may lead to the server that is the master by now
        return outcomes

    async def close(self) -> None:
        if self._link is not None:
            link, self._link = self._link, None
            await link.close()

    def _linked(self) -> Link:
        if self._link is None:
            self._link = Link(self._settings)
        return self._link

    def _written(self, message: Outgoing) -> Command:
        """Return the command that adds a message to its stream."""
        fields = chain.from_iterable(message.headers.items())
        return ("XADD", message.topic, *self._how, BODY, message.body, KEY, message.key, *fields)

    def _unfit(self, message: Outgoing) -> Refused | None:
        if not message.topic:
            return Refused("it has no topic", permanent=True)
        if BODY in message.headers or KEY in message.headers:
            return Refused(f"a header is named {BODY} or {KEY}, as the entry's own fields are", permanent=True)
        largest = len(message.body)
        try:
            for text in (message.topic, message.key, *message.headers, *message.headers.values()):
                if len(text) * 4 > self._largest or not text.isascii():
                    largest = max(largest, len(text.encode()))
        except UnicodeEncodeError as error:
            return Refused(f"it cannot be written as UTF-8: {error.reason}", permanent=True)
        if largest > self._largest:
            return Refused(
                f"it has a field of {largest} bytes, and the server takes {self._largest} (proto-max-bulk-len)",
                permanent=True,
            )
        return None

    def _replicated(
        self, outcomes: list[Refused | None], fit: Sequence[int], answer: int | Exception
    ) -> list[Refused | None]:
        """Refuse what too few replicas have; they may have it a moment later."""
        if isinstance(answer, int) and answer >= self._settings.replicas:
            return outcomes
        refused = Refused(f"{answer} replicas have it, and {self._settings.replicas} have to")
        return [outcome or refused if index in set(fit) else outcome for index, outcome in enumerate(outcomes)]


def _late(seconds: float) -> Refused:
    return Refused(f"not acknowledged within {seconds:g} s: the broker may have it, or not")


def _outcome(answer: object) -> Refused | None:
    if not isinstance(answer, Exception):
        return None
    text = str(answer)
    return Refused(text, permanent=text.startswith("WRONGTYPE"))


async def check_server(link: Link, topics: Sequence[str]) -> None:
    """Raise `BrokerRefused` if the server, or something under a topic's name, cannot be used."""
    address = link.settings.address
    if bad := [topic for topic in topics if not topic]:
        raise BrokerRefused(f"{address}: {bad[0]!r} cannot be a stream of Redis")
    pipeline = link.client.pipeline(transaction=False)
    for topic in topics:
        pipeline.execute_command("TYPE", topic)
    pipeline.execute_command("INFO", "cluster")
    pipeline.execute_command("ROLE")
    answers: list[Any] = await link.call(pipeline.execute(raise_on_error=False))
    *types, cluster, role = answers
    if not isinstance(cluster, Exception) and cluster.get("cluster_enabled") == 1:
        raise BrokerRefused(f"{address} is a cluster of Redis, which cannot be used: a topic has one server")
    if not isinstance(role, Exception) and role[0] in (b"slave", "slave"):
        raise BrokerUnavailable(f"{address} is a replica: nothing can be written there unless it becomes the master")
    for topic, kind in zip(topics, types, strict=True):
        if isinstance(kind, Exception):
            raise link.failure(kind)
        if kind not in (b"none", b"stream", "none", "stream"):
            word = kind.decode() if isinstance(kind, bytes) else kind
            raise BrokerRefused(f"{address}: {topic!r} does not fit: it is a {word}, and has to be a stream")


async def _largest(link: Link) -> int:
    try:
        answer: Any = await link.call(link.client.execute_command("CONFIG GET", "proto-max-bulk-len"))
        return int(next(iter(answer.values())))
    except (exceptions.ResponseError, StopIteration, ValueError, AttributeError):  # may be forbidden
        return _LARGEST_USUAL
