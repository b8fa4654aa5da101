"""The client of Redis as it is used here: nothing is tried again by itself, and its errors are told apart."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Sequence
from importlib import import_module
from typing import Any, TypeVar

from redis import exceptions
from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from ensue.brokers.redis.settings import Settings
from ensue.errors import BrokerRefused, BrokerUnavailable

T = TypeVar("T")
_pack: Any = import_module("hiredis").pack_command  # by its types, commands have no arguments
Command = Sequence[str | bytes | int]
"""A command and its arguments, each as the server is to get it."""


class Link:
    """A few connections to one server: one of them may wait for messages while another one acknowledges."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        address = settings.address
        self.client: Any = Redis(  # its types are incomplete
            connection_pool=BlockingConnectionPool(
                connection_class=SSLConnection if address.scheme == "rediss" else Connection,
                host=address.host,
                port=address.port(6379),
                db=settings.database,
                username=address.user or None,
                password=address.password,
                protocol=2,
                socket_timeout=None,  # an answer may be waited for: every call has its own time
                socket_connect_timeout=address.timeout,
                retry=Retry(NoBackoff(), 0),
                max_connections=8,
                timeout=address.timeout,
                client_name="ensue",
                **_tls(settings),
            )
        )

    async def call(self, answer: Awaitable[T], seconds: float | None = None) -> T:
        """Await an answer. Raises `BrokerUnavailable` and `BrokerRefused`, and `ResponseError` as it is."""
        address = self.settings.address
        limit = address.timeout if seconds is None else seconds
        try:
            async with asyncio.timeout(limit):
                return await answer
        except exceptions.ResponseError:
            raise
        except (exceptions.RedisError, OSError) as error:
            if isinstance(error, TimeoutError):
                raise BrokerUnavailable(f"{address} did not answer within {limit:g} s") from None
            raise self.failure(error) from error

    async def run(self, pipeline: Any, seconds: float | None = None) -> list[Any]:
        """Run a pipeline, and raise the first error as the server has said it. Raises as `call`."""
        answers: list[Any] = await self.call(pipeline.execute(raise_on_error=False), seconds)
        for answer in answers:
            if isinstance(answer, exceptions.ResponseError):
                raise answer
        return answers

    async def together(self, commands: Sequence[Command], seconds: float | None = None) -> list[Any]:
        """Send commands at once; return the answers in their order as the server gives them, its errors among them.

        A pipeline of redis-py does that too, and takes several times as long to write them down. Raises as `call`.
        """
        return await self.call(self._exchange(b"".join(map(_pack, map(tuple, commands))), len(commands)), seconds)

    async def _exchange(self, written: bytes, count: int) -> list[Any]:
        pool: Any = self.client.connection_pool
        connection = await pool.get_connection()
        answers: list[Any] = []
        try:  # a connection on which this is broken off is closed by the client: what is still to come is lost with it
            await connection.send_packed_command(written)
            for _ in range(count):
                try:
                    answers.append(await connection.read_response())
                except exceptions.ResponseError as error:
                    answers.append(error)
        finally:
            await pool.release(connection)
        return answers

    def failure(self, error: Exception) -> BrokerUnavailable | BrokerRefused:
        """Return the error for what the client or the server says."""
        address, text = self.settings.address, str(error) or type(error).__name__
        for each in _causes(error):
            if isinstance(each, ssl.SSLCertVerificationError):
                return BrokerRefused(
                    f"{address}: the certificate is not to be trusted: {each.verify_message}; "
                    "the option ca names the file of its CA"
                )
        if isinstance(error, (exceptions.AuthenticationError, exceptions.AuthorizationError)):
            return BrokerRefused(f"{address} refuses the user or the password: {text}")
        if isinstance(error, exceptions.ResponseError) and not passes(error):
            return BrokerRefused(f"{address}: {text}")
        return BrokerUnavailable(f"{address}: {text}")

    async def close(self) -> None:
        """Close all connections; idempotent."""
        with contextlib.suppress(exceptions.RedisError, OSError):
            async with asyncio.timeout(min(1.0, self.settings.address.timeout)):
                await self.client.aclose()
        await self.client.connection_pool.disconnect(inuse_connections=True)


_PASSING = (
    exceptions.OutOfMemoryError,
    exceptions.ReadOnlyError,
    exceptions.ClusterDownError,
    exceptions.TryAgainError,
)
_PASSING_WORDS = ("MISCONF", "NOREPLICAS", "MASTERDOWN", "BUSY ", "UNBLOCKED", "LOADING")


def passes(error: Exception) -> bool:
    """Tell whether what the server refuses now it may take later, without anybody changing the message."""
    return isinstance(error, _PASSING) or str(error).startswith(_PASSING_WORDS)


def _causes(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and len(found) < 10:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _tls(settings: Settings) -> dict[str, Any]:
    address = settings.address
    if address.scheme != "rediss":
        return {}
    address.tls()  # says what is wrong with the files
    return {
        "ssl_ca_certs": address.options.get("ca"),
        "ssl_certfile": address.options.get("cert"),
        "ssl_keyfile": address.options.get("key"),
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": True,
    }
