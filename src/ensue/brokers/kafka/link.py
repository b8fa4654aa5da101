"""Connecting to Kafka, and leaving it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any
from weakref import WeakKeyDictionary

from ensue.brokers.kafka.client import conn, errors, metadata
from ensue.brokers.kafka.failing import failure_of, refuses
from ensue.brokers.kafka.settings import Settings
from ensue.errors import BrokerError

CLOSES_WITHIN = 2.0
"""Seconds; a broker that does not answer is left."""
_HANGS_UP_WITHIN = 0.5


def connecting(settings: Settings) -> dict[str, Any]:
    """Return what producer, consumer and administration need to connect."""
    address = settings.address
    secure = address.scheme == "kafkas"
    found: dict[str, Any] = {
        "bootstrap_servers": [
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in settings.places
        ],
        "client_id": "ensue",
        "request_timeout_ms": max(1000, int(min(address.timeout, 40) * 1000)),
        "security_protocol": ("SASL_" if address.user else "") + ("SSL" if secure else "PLAINTEXT"),
    }
    if secure:
        found["ssl_context"] = address.tls()
    if address.user:
        found["sasl_mechanism"] = settings.sasl
        found["sasl_plain_username"] = address.user
        found["sasl_plain_password"] = address.password or ""
    return found


@contextlib.asynccontextmanager
async def in_our_words(settings: Settings) -> AsyncGenerator[None]:
    """Bound what is done by the timeout, and say how it failed."""
    try:
        async with asyncio.timeout(settings.address.timeout):
            yield
    except BrokerError:
        raise
    except (errors.KafkaError, errors.IllegalOperation, OSError, TimeoutError, RuntimeError) as error:
        if isinstance(error, errors.KafkaConnectionError) and (why := await _why_not(settings)) is not None:
            raise failure_of(settings.address, why) from error
        raise failure_of(settings.address, error) from error


async def _why_not(settings: Settings) -> Exception | None:
    """Connect once more, by hand: aiokafka only logs why it could not."""
    known = connecting(settings)
    names = ("client_id", "request_timeout_ms", "security_protocol", "ssl_context", "sasl_mechanism")
    chosen = {name: known[name] for name in known if name in names or name.startswith("sasl_plain")}
    why: Exception | None = None
    for host, port in settings.places:
        try:
            async with asyncio.timeout(CLOSES_WITHIN):
                connection = await conn.create_conn(host, port, **chosen)
        except (errors.KafkaError, OSError, TimeoutError) as error:
            if why is None or refuses(error):
                why = error
        else:
            why = why or await _cold_shoulder(connection)
    return why


async def _cold_shoulder(connection: Any) -> Exception | None:
    """Tell whether the broker lets us in and then will not talk, as one does that wants users to log in."""
    try:
        async with asyncio.timeout(CLOSES_WITHIN):
            await connection.send(metadata.MetadataRequest([]))
    except errors.KafkaConnectionError:
        wanting: Exception = errors.IllegalSaslStateError(
            "it breaks off the connection: it may want a user and a password"
        )
        return wanting
    except (errors.KafkaError, OSError, TimeoutError):
        return None
    finally:
        connection.close()
    return None


_under_way: set[asyncio.Future[None]] = set()
_connecting: WeakKeyDictionary[Any, asyncio.Future[None]] = WeakKeyDictionary()


def whole(client: Any) -> None:
    """Let the client's first connection come to its end also if who waits for it is cancelled.

    aiokafka would leave it open then. `leave` waits for it.
    """
    bootstrap = client.bootstrap

    async def connect() -> None:
        connecting = _connecting[client] = _in_background(bootstrap())
        await asyncio.shield(connecting)

    client.bootstrap = connect


async def leave(client: Any, goodbye: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Say goodbye, and wait for it a little, cancelled or not; then hang up: a broker that is gone does not answer."""
    closing = _in_background(_connected_and(client, goodbye))
    hanging_up = _in_background(_hang_up(client, closing))
    try:
        await asyncio.wait([hanging_up], timeout=CLOSES_WITHIN + _HANGS_UP_WITHIN)
    except asyncio.CancelledError:
        await asyncio.wait([hanging_up], timeout=CLOSES_WITHIN + _HANGS_UP_WITHIN)
        raise


async def _connected_and(client: Any, goodbye: Callable[[], Coroutine[Any, Any, None]]) -> None:
    if (connecting := _connecting.get(client)) is not None:
        await asyncio.wait([connecting])
    await goodbye()


async def _hang_up(client: Any, closing: asyncio.Future[None]) -> None:
    """Close the connections when the time is over: whoever waits for an answer then gets an error instead."""
    await asyncio.wait([closing], timeout=CLOSES_WITHIN)
    if not closing.done():
        await client.close()
        await asyncio.wait([closing])


def _in_background(what: Coroutine[Any, Any, None]) -> asyncio.Future[None]:
    task = asyncio.ensure_future(what)
    _under_way.add(task)
    task.add_done_callback(_over)
    return task


def _over(task: asyncio.Future[None]) -> None:
    _under_way.discard(task)
    if not task.cancelled():
        task.exception()
