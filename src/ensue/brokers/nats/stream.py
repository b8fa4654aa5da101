"""The stream that holds the topics: made, widened, or found not to fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ensue.brokers.nats.link import Fault, Link
from ensue.brokers.nats.settings import Settings
from ensue.errors import BrokerRefused, BrokerUnavailable

STREAM_NOT_FOUND = 10059
_STREAM_EXISTS = 10058

_SECOND = 1_000_000_000
TRIES = 5
"""How often something is done again that others undo at the same time."""


async def ensure_stream(link: Link, topics: Sequence[str]) -> bool:
    """See to it that the stream is there, fits, and takes these topics; several at once may.

    Return whether it was made. Raises `BrokerRefused` if it does not fit, and as `Link.request`.
    """
    settings = link.settings
    name = settings.stream
    if bad := [topic for topic in topics if not is_subject(topic)]:
        raise BrokerRefused(f"{settings.address}: {bad[0]!r} cannot be a subject of NATS")
    made_here = False
    for _ in range(TRIES):  # what others do at the same time shows when it is read again
        found = await link.ask(f"STREAM.INFO.{name}")
        if isinstance(found, Fault):
            if found.err_code != STREAM_NOT_FOUND:
                raise link.failure(f"stream {name}", found)
            made = await link.ask(f"STREAM.CREATE.{name}", _configuration(settings, topics))
            if isinstance(made, Fault) and made.err_code != _STREAM_EXISTS:
                raise link.failure(f"stream {name} cannot be made", made)
            made_here = not isinstance(made, Fault)
            continue
        config: dict[str, Any] = found["config"]
        if differences := _differences(settings, config):
            raise BrokerRefused(f"{settings.address}: stream {name} does not fit: {'; '.join(differences)}")
        subjects: list[str] = config.get("subjects") or []
        missing = [topic for topic in dict.fromkeys(topics) if not any(covers(each, topic) for each in subjects)]
        if not missing:
            return made_here
        widened = await link.ask(f"STREAM.UPDATE.{name}", {**config, "subjects": [*subjects, *missing]})
        if isinstance(widened, Fault):
            raise link.failure(f"stream {name} cannot take {', '.join(missing)}", widened)
    raise BrokerUnavailable(f"{settings.address}: stream {name} is being changed by others all the time")


async def longest_age(link: Link) -> float | None:
    """Return the seconds after which the stream removes a message; None if it never does, or is not there."""
    name = link.settings.stream
    found = await link.ask(f"STREAM.INFO.{name}")
    if isinstance(found, Fault):
        if found.err_code == STREAM_NOT_FOUND:
            return None
        raise link.failure(f"stream {name}", found)
    return found["config"].get("max_age", 0) / _SECOND or None


def _configuration(settings: Settings, topics: Sequence[str]) -> dict[str, Any]:
    return {
        "name": settings.stream,
        "subjects": list(dict.fromkeys(topics)),
        "storage": "file",
        "retention": "limits",
        "discard": "new",
        "max_age": int(settings.max_age * _SECOND),
        "max_bytes": settings.max_bytes,
        "num_replicas": settings.replicas or 1,
        "duplicate_window": int(_window(settings) * _SECOND),
    }


def _window(settings: Settings) -> float:
    window = 120 if settings.duplicates is None else settings.duplicates
    return min(window, settings.max_age) if settings.max_age else window


def _differences(settings: Settings, config: dict[str, Any]) -> list[str]:
    """Return why the stream that is there cannot be used, one phrase each."""
    found: list[str] = []
    for name, wanted in (("storage", "file"), ("retention", "limits")):
        if (there := config.get(name, wanted)) != wanted:
            found.append(f"its {name} is {there}, and has to be {wanted}")
    if config.get("no_ack"):
        found.append("it acknowledges nothing (no_ack)")
    if config.get("sealed"):
        found.append("it is sealed")
    if config.get("mirror"):
        found.append("it is a mirror, and takes no messages")
    window = config.get("duplicate_window", 0) / _SECOND
    if settings.duplicates is not None and window < settings.duplicates:
        found.append(f"its duplicate window is {window:g} s, and has to be {settings.duplicates:g} s (duplicates=)")
    replicas = config.get("num_replicas", 1)
    if settings.replicas is not None and replicas < settings.replicas:
        found.append(f"it has {replicas} replicas, and has to have {settings.replicas} (replicas=)")
    return found


def is_subject(topic: str) -> bool:
    """Tell whether something can be published under this name."""
    tokens = topic.split(".")
    return (
        all(tokens)
        and not any(token in ("*", ">") for token in tokens)
        and not any(character.isspace() or ord(character) < 32 or ord(character) == 127 for character in topic)
        and len(topic) < 1000
        and tokens[0] not in ("$JS", "$SYS")
    )


def covers(pattern: str, topic: str) -> bool:
    """Tell whether a subject with wildcards takes a topic."""
    wanted, found = pattern.split("."), topic.split(".")
    for index, each in enumerate(wanted):
        if each == ">":
            return len(found) > index
        if index == len(found) or each not in ("*", found[index]):
            return False
    return len(wanted) == len(found)


def common_pattern(topics: Sequence[str]) -> str:
    """Return the narrowest subject with wildcards that takes all topics."""
    split = [topic.split(".") for topic in topics]
    tokens = [each[0] if len(set(each)) == 1 else "*" for each in zip(*split, strict=False)]
    if len({len(each) for each in split}) > 1:
        tokens = [*tokens[: min(len(each) for each in split)], ">"]
        if len(tokens) - 1 == min(len(each) for each in split):  # `a.>` does not take `a`
            tokens = [*tokens[:-2], ">"]
    return ".".join(tokens)
