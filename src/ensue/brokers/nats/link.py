"""One connection to NATS. Once it is lost it stays lost: what was under way over it must be known to be."""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from ensue.brokers.nats.settings import Settings
from ensue.errors import BrokerRefused, BrokerUnavailable, DeclarationError

T = TypeVar("T")

Answered = Callable[[str, Msg], None]
"""Takes the last token of the subject that a message came for, and the message."""


class Fault(msgspec.Struct, frozen=True):
    """What JetStream answers instead of what it was asked for."""

    code: int
    description: str = ""
    err_code: int = 0

    def __str__(self) -> str:
        return f"{self.description} ({self.err_code or self.code})"


class Link:
    """A connection, and the subjects at which answers come in: `<inbox>.<name>.<token>`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.inbox = ""
        self.denied: str | None = None
        """What the server last said that this user may not do."""
        self.client = Client()
        self._last_error: Exception | None = None
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._answered: dict[str, Answered] = {}
        self._names = 0

    # -- life

    @classmethod
    async def open(cls, settings: Settings) -> Link:
        """Connect to any of the servers. Raises `BrokerUnavailable`, `BrokerRefused` and `DeclarationError`."""
        address = settings.address
        servers = address.servers
        problems: list[Exception] = []
        for server in random.sample(servers, len(servers)):
            link = cls(settings)
            try:
                async with asyncio.timeout(address.timeout / len(servers)):
                    await link._connect(server)
            except (nats.errors.Error, OSError, TimeoutError) as error:
                problems.append(error)
                await link.abandon()
            except BaseException:
                await link.abandon()
                raise
            else:
                return link
        for problem in problems:
            if isinstance(problem, ssl.SSLCertVerificationError):
                raise BrokerRefused(
                    f"{address}: the certificate is not to be trusted: {problem.verify_message}; "
                    "the option ca names the file of its CA"
                ) from problem
            if "authorization violation" in str(problem).lower():
                raise BrokerRefused(f"{address} refuses the user or the password") from problem
            if isinstance(problem, Unprotected):
                raise BrokerRefused(f"{address} speaks no TLS: write it as nats:// if that is meant") from problem
        raise BrokerUnavailable(f"{address}: {told(problems[0])}") from problems[0]

    async def _connect(self, server: str) -> None:
        address = self.settings.address
        tls = address.tls() if address.scheme == "tls" or "ca" in address.options else None
        secrets: dict[str, Any] = {}
        if address.user is not None:
            secrets |= {"user": self._only_protected(address.user), "password": self._only_protected(address.password)}
        if "token" in address.options:
            secrets["token"] = self._only_protected(address.options["token"])
        if "creds" in address.options:
            secrets["user_credentials"] = address.options["creds"]
        try:
            await self.client.connect(
                [f"{address.scheme}://{server if ':' in server else server + ':4222'}"],
                name="ensue",
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                connect_timeout=address.timeout,  # type: ignore[arg-type]
                ping_interval=max(1, min(30, address.timeout)),  # type: ignore[arg-type]
                error_cb=self._erred,
                closed_cb=self._closed,
                tls=tls,
                **secrets,
            )
        except nats.errors.NoServersError as error:
            raise self._last_error or error from None
        except ModuleNotFoundError as error:
            raise DeclarationError(f"{address}: the option creds needs {error.name}: pip install nkeys") from error
        if address.scheme == "tls" and not self._protected:
            raise Unprotected
        self.inbox = self.client.new_inbox()
        await self.subscribe(f"{self.inbox}.>", self._came)

    @property
    def _protected(self) -> bool:
        return bool(self.client._server_info.get("tls_required"))  # noqa: SLF001 - the client goes on without TLS

    def _only_protected(self, secret: str | None) -> Callable[[], str]:
        """Withhold a secret from a server that was to speak TLS and does not."""

        def tell() -> str:
            if self.settings.address.scheme == "tls" and not self._protected:
                raise Unprotected
            return secret or ""

        return tell

    async def close(self) -> None:
        """Close it after what was sent has arrived; if that takes longer than a second, without."""
        try:
            async with asyncio.timeout(min(1.0, self.settings.address.timeout)):
                await self.client.flush()
        except (nats.errors.Error, OSError, TimeoutError):
            await self.abandon()
            return
        except BaseException:
            await self.abandon()
            raise
        await self._end()

    async def abandon(self) -> None:
        """Close it without waiting for the server."""
        client = self.client
        client._pending.clear()  # noqa: SLF001 - or closing would wait until the server has taken it
        client._pending_data_size = 0  # noqa: SLF001
        transport: Any = client._transport  # noqa: SLF001
        for writer in (getattr(transport, "_io_writer", None), getattr(transport, "_bare_io_writer", None)):
            if writer is not None:
                writer.transport.abort()
        await self._end()

    async def _end(self) -> None:
        if self.client.is_connected:
            with contextlib.suppress(nats.errors.Error, OSError):
                await self.client.close()
        self._lose()

    # -- losing it

    @property
    def is_lost(self) -> bool:
        return self._lost.done() or self.client.is_closed

    def unavailable(self) -> BrokerUnavailable:
        """Return the error that says so."""
        problem = self._last_error or nats.errors.ConnectionClosedError()
        error = BrokerUnavailable(f"{self.settings.address}: the connection is lost: {told(problem)}")
        error.__cause__ = problem
        return error

    async def unless_lost(self, outcome: Awaitable[T]) -> T:
        """Await something that comes over this connection. Raises `BrokerUnavailable` if it cannot come any more."""
        task = asyncio.ensure_future(outcome)
        try:
            await asyncio.wait((task, self._lost), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise self.unavailable()
        finally:
            task.cancel()

    async def _erred(self, error: Exception) -> None:
        text = str(error)
        if "permissions violation" in text.lower():
            self.denied = text
        elif not isinstance(error, nats.errors.SlowConsumerError):
            self._last_error = error

    async def _closed(self) -> None:
        self._lose()

    def _lose(self) -> None:
        if not self._lost.done():
            self._lost.set_result(None)

    # -- asking

    async def subscribe(self, subject: str, came: Callable[[Msg], Awaitable[None]]) -> None:
        """Have everything that comes for a subject handed over. Raises `BrokerUnavailable` if that cannot be."""
        client: Any = self.client  # its types are incomplete here
        try:
            await client.subscribe(subject, cb=came, pending_bytes_limit=0)  # or the client drops what is too much
        except (nats.errors.Error, OSError) as error:
            raise BrokerUnavailable(f"{self.settings.address}: {told(error)}") from error

    def name(self, answered: Answered) -> str:
        """Name a new place for answers, from which they are handed over until it is forgotten."""
        self._names += 1
        name = str(self._names)
        self._answered[name] = answered
        return name

    def forget(self, name: str) -> None:
        self._answered.pop(name, None)

    async def _came(self, message: Msg) -> None:
        name, _, token = message.subject[len(self.inbox) + 1 :].partition(".")
        if (answered := self._answered.get(name)) is not None:
            answered(token, message)

    async def request(self, subject: str, body: bytes = b"") -> Msg:
        """Send a request, and return the answer. Raises `BrokerUnavailable` if there is none in time."""
        answer: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        name = self.name(lambda _, message: None if answer.done() else answer.set_result(message))
        timeout = self.settings.address.timeout
        try:
            async with asyncio.timeout(timeout):
                await self.client.publish(subject, body, reply=f"{self.inbox}.{name}.1")
                return await self.unless_lost(answer)
        except TimeoutError:
            if self.denied is not None:
                raise BrokerRefused(f"{self.settings.address}: {self.denied}") from None
            raise BrokerUnavailable(f"{self.settings.address} did not answer within {timeout:g} s") from None
        except (nats.errors.Error, OSError) as error:
            raise BrokerUnavailable(f"{self.settings.address}: {told(error)}") from error
        finally:
            self.forget(name)

    async def ask(self, what: str, question: object = None) -> dict[str, Any] | Fault:
        """Ask JetStream's API."""
        prefix = f"$JS.{self.settings.domain}.API" if self.settings.domain else "$JS.API"
        body = b"" if question is None else msgspec.json.encode(question)
        message = await self.request(f"{prefix}.{what}", body)
        if status(message) == "503":
            return Fault(503, "no JetStream answers: it is not enabled, or not ready yet")
        answer: dict[str, Any] = msgspec.json.decode(message.data)
        return msgspec.convert(answer["error"], Fault) if "error" in answer else answer

    def failure(self, what: str, fault: Fault) -> BrokerUnavailable | BrokerRefused:
        """Return the error for a fault: some pass by themselves."""
        text = f"{self.settings.address}: {what}: {fault}"
        for_good = fault.code != 503 or fault.err_code in _NOT_ENABLED
        return BrokerRefused(text) if for_good else BrokerUnavailable(text)


_NOT_ENABLED = {10039, 10076, 10023}  # for the account, for the server; and resources that are used up


class Unprotected(nats.errors.Error):
    """The server was to speak TLS, and does not."""


def status(message: Msg) -> str | None:
    """Return the status that a server sends instead of a message; None for a message."""
    headers: dict[str, str] | None = message.headers
    return None if headers is None or message.data else headers.get("Status")


def told(error: Exception) -> str:
    return str(error).removeprefix("nats: ") or type(error).__name__
