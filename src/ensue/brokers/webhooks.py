"""Webhooks: events POSTed to a URL as CloudEvents over HTTP, signed by the Standard Webhooks convention.

https://www.standardwebhooks.com: `webhook-id` is the event's id, the same for every attempt; `webhook-signature` holds
HMAC-SHA256 of id, time and body for each secret that counts. Headers are not signed: so events travel in structured
mode, where all of their attributes are in the body. `receive` is the other end, and `Receiver` is that end as an ASGI
application.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hmac
import os
import secrets
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, ClassVar, Literal, cast
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import httpx

from ensue.brokers.address import Address
from ensue.brokers.broker import Consumer, Outgoing, Refused
from ensue.contracts.cloudevents import HTTP, STRUCTURED, Binding, CloudEvent, Headers, parse
from ensue.errors import BrokerRefused, BrokerUnavailable, DeclarationError, MalformedMessage, UnverifiedMessage

TOLERANCE = timedelta(minutes=5)
"""How far the time of a signature may be from the receiver's: one that was overheard is of no use for longer."""

_PREFIX = "whsec_"
_OPTIONS = ("timeout", "ca", "cert", "key", "secret_env", "most")
_LATER = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)
_ASKING = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
_GONE_ELSEWHERE = (HTTPStatus.MOVED_PERMANENTLY, HTTPStatus.PERMANENT_REDIRECT)
_TOLD = 200  # characters of an answer that are quoted
_LONGEST_WAIT = 3600.0  # seconds; a receiver that asks for more is asked again all the same


# --- signing


def new_secret() -> str:
    """Make a secret to be shared with a receiver."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


class Secrets:
    """The secrets that sign, or that are accepted: more than one while one is replaced. It is never shown."""

    def __init__(self, *texts: str) -> None:
        """Take secrets as `whsec_…`, base64 after the prefix. Raises `DeclarationError` for one that is none."""
        if not texts:
            raise DeclarationError("webhooks need at least one secret")
        self._keys = [_key(text) for text in texts]

    def __repr__(self) -> str:
        return f"<{len(self._keys)} secrets>"

    def sign(self, id: str, at: datetime, body: bytes) -> dict[str, str]:
        """Return the headers that say who sent a body, and when."""
        moment = str(int(at.timestamp()))
        content = b"%s.%s.%s" % (id.encode(), moment.encode(), body)
        signatures = " ".join(f"v1,{_signature(key, content)}" for key in self._keys)
        return {"webhook-id": id, "webhook-timestamp": moment, "webhook-signature": signatures}

    def verify(
        self, headers: Headers, body: bytes, *, now: datetime | None = None, tolerance: timedelta = TOLERANCE
    ) -> str:
        """Return the id under which a body was signed. Raises `UnverifiedMessage` if it was not, or not lately."""
        id, moment, signatures = (_header(headers, f"webhook-{name}") for name in ("id", "timestamp", "signature"))
        if not id or not moment or not signatures:
            raise UnverifiedMessage("the request is not signed: webhook-id, -timestamp or -signature is missing")
        if not (moment.isascii() and moment.isdecimal() and len(moment) < 12):
            raise UnverifiedMessage("webhook-timestamp is no number of seconds")
        age = (now or datetime.now(UTC)) - datetime.fromtimestamp(int(moment), UTC)
        if abs(age) > tolerance:
            raise UnverifiedMessage(f"the request was signed {age.total_seconds():.0f} s ago: it may be a repeated one")
        content = b"%s.%s.%s" % (id.encode(), moment.encode(), body)
        given = [
            text.encode() for version, _, text in (s.partition(",") for s in signatures.split()) if version == "v1"
        ]
        fits = [hmac.compare_digest(_signature(key, content).encode(), text) for key in self._keys for text in given]
        if not any(fits):
            raise UnverifiedMessage("no signature of the request fits one of the secrets")
        return id


def _key(text: str) -> bytes:
    try:
        key = base64.b64decode(text.strip().removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) < 16:
        raise DeclarationError(
            f"a secret of webhooks is {_PREFIX} and base64 of 24 to 64 bytes; new_secret() makes one"
        )
    return key


def _signature(key: bytes, content: bytes) -> str:
    return base64.b64encode(hmac.digest(key, content, "sha256")).decode()


def _header(headers: Headers, name: str) -> str | None:
    pairs = cast("Iterable[tuple[Any, Any]]", headers.items() if isinstance(headers, Mapping) else headers)
    for found, value in pairs:
        if (found.decode("latin-1") if isinstance(found, bytes) else str(found)).lower() == name:
            return value.decode("latin-1") if isinstance(value, bytes) else str(value)
    return None


# --- out


class Webhooks:
    """A receiver at `https://host/path?secret_env=NAME`; `{topic}` in the path stands for the message's topic."""

    protocol: ClassVar[str] = "http"
    binding: ClassVar[Binding] = HTTP
    shares: ClassVar[bool] = False
    signs_bodies: ClassVar[Literal[True]] = True

    def __init__(self, address: Address, signing: Secrets | None = None) -> None:
        """Take the secrets, or find them in the environment variable that the URL names, separated by spaces.

        Raises `DeclarationError` if there is none: what is not signed can be sent by anybody.
        """
        self.address = address
        most = address.options.get("most", "20")
        if not most.isdecimal() or int(most) < 1:
            raise DeclarationError(f"{address}: most={most!r}: a number of requests at a time, from 1 on")
        self.most = int(most)
        self.signing = signing or _from_environment(address)

    def publisher(self) -> WebhookPublisher:
        return WebhookPublisher(self)

    def consumer(self, topics: Sequence[str], group: str) -> Consumer:
        """Raise `DeclarationError`: nothing can be fetched, webhooks come by themselves."""
        raise DeclarationError(
            f"{self.address}: webhooks cannot be fetched: they are sent to you. Mount ensue.brokers.webhooks.Receiver "
            "in your web application, or call receive() in a view"
        )

    def url(self, topic: str) -> str:
        """Return where messages of a topic go: without what the URL says to us."""
        parts = urlsplit(self.address.url)
        kept = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name not in _OPTIONS]
        path = parts.path.replace("{topic}", quote(topic, safe=""))
        netloc = parts.netloc.rpartition("@")[2]
        return parts._replace(netloc=netloc, path=path, query=urlencode(kept), fragment="").geturl()


def _from_environment(address: Address) -> Secrets:
    name = address.options.get("secret_env")
    if name is None:
        raise DeclarationError(f"{address}: name the environment variable that holds the secret: ?secret_env=NAME")
    if not (texts := os.environ.get(name, "").split()):
        raise DeclarationError(f"{address}: the environment variable {name} is not set; it holds the webhooks' secret")
    return Secrets(*texts)


class WebhookPublisher:
    """Posts messages, some at a time. Whether the receiver has one for good is what its 2xx says."""

    def __init__(self, broker: Webhooks) -> None:
        self._broker = broker
        self._client: httpx.AsyncClient | None = None
        self._not_before = 0.0  # the loop's time at which the receiver wants to be asked again

    async def open(self, topics: Sequence[str] = ()) -> None:
        """Make the client; nothing is sent, so whether anybody is there shows with the first message."""
        self._ready()

    async def publish(self, messages: Sequence[Outgoing]) -> list[Refused | None]:
        client = self._ready()
        results: list[Refused | httpx.TransportError | None] = [self._late() for _ in messages]
        places = asyncio.Semaphore(self._broker.most)

        async def send(number: int) -> None:
            async with places:
                results[number] = await self._post(client, messages[number])

        tasks = [asyncio.ensure_future(send(number)) for number in range(len(messages))]
        try:
            if tasks:
                await asyncio.wait(tasks, timeout=self._broker.address.timeout)
        finally:
            for task in tasks:
                task.cancel()
            errors = await asyncio.gather(*tasks, return_exceptions=True)
        for error in errors:
            if isinstance(error, Exception):
                raise error
        return self._judge(results)

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def _ready(self) -> httpx.AsyncClient:
        if self._client is None:
            address = self._broker.address
            who = None if address.user is None else httpx.BasicAuth(address.user, address.password or "")
            self._client = httpx.AsyncClient(
                auth=who,
                verify=address.tls() if address.scheme == "https" else True,
                timeout=httpx.Timeout(address.timeout, pool=None),
                limits=httpx.Limits(max_connections=self._broker.most, max_keepalive_connections=self._broker.most),
                follow_redirects=False,
                headers={"user-agent": "ensue"},
            )
        return self._client

    async def _post(self, client: httpx.AsyncClient, message: Outgoing) -> Refused | httpx.TransportError | None:
        now = asyncio.get_running_loop().time()
        if now < self._not_before:
            wait = self._not_before - now
            return Refused(f"the receiver has asked to wait {wait:.0f} s more", after=wait, sent=False)
        try:
            signed = self._broker.signing.sign(message.id, datetime.now(UTC), message.body)
            headers = {"content-type": message.content_type, **message.headers, **signed}
            async with client.stream(
                "POST", self._broker.url(message.topic), content=message.body, headers=headers
            ) as answer:
                if answer.is_success:
                    return None
                return await self._refusal(answer)
        except (httpx.LocalProtocolError, httpx.InvalidURL, UnicodeEncodeError) as error:
            return Refused(f"it cannot be written as HTTP: {error}", permanent=True)
        except httpx.TransportError as error:
            return error

    async def _refusal(self, answer: httpx.Response) -> Refused:
        status = answer.status_code
        told = f"the receiver answers {status} {answer.reason_phrase}".rstrip()
        if answer.has_redirect_location:
            elsewhere = answer.headers["location"]
            told += f": a redirect to {elsewhere[:_TOLD]}, which is not followed; if it is right, write it as the URL"
            return Refused(told, permanent=status in _GONE_ELSEWHERE)
        if status in _ASKING and (wait := _retry_after(answer)) is not None:
            self._not_before = max(self._not_before, asyncio.get_running_loop().time() + wait)
            return Refused(f"{told}, and asks to wait {wait:.0f} s", after=wait)
        if words := await _beginning(answer):
            told += f": {words}"
        return Refused(told, permanent=400 <= status < 500 and status not in _LATER)

    def _judge(self, results: Sequence[Refused | httpx.TransportError | None]) -> list[Refused | None]:
        """Raise if nobody is there; otherwise a connection that fails is a matter of one message."""
        failed = [result for result in results if isinstance(result, httpx.TransportError)]
        address = self._broker.address
        for error in failed:
            if _is_certificate(error):
                raise BrokerRefused(f"{address}: {error}") from error
        if failed and len(failed) == len(results) and all(isinstance(error, httpx.ConnectError) for error in failed):
            raise BrokerUnavailable(f"{address}: {failed[0]}") from failed[0]
        return [
            Refused(f"no answer: {str(result) or type(result).__name__}")
            if isinstance(result, httpx.TransportError)
            else result
            for result in results
        ]

    def _late(self) -> Refused:
        return Refused(f"no answer within {self._broker.address.timeout:g} s; the receiver may have it all the same")


def _retry_after(answer: httpx.Response) -> float | None:
    """Return the seconds of Retry-After, a number or a date, at most an hour; None for what is neither."""
    text = answer.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdecimal():
        return min(_LONGEST_WAIT, float(text[:9]))
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        moment = parsedate_to_datetime(text)
        if moment.tzinfo is None:  # the zone -0000, which says that it is in UTC
            moment = moment.replace(tzinfo=UTC)
        return min(_LONGEST_WAIT, max(0.0, (moment - datetime.now(UTC)).total_seconds()))
    return None


async def _beginning(answer: httpx.Response) -> str:
    with contextlib.suppress(httpx.HTTPError):
        async for chunk in answer.aiter_bytes(4 * _TOLD):
            return " ".join(chunk.decode(errors="replace").split())[:_TOLD]
    return ""


def _is_certificate(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY_FAILED" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


# --- in


def receive(
    headers: Headers, body: bytes, signing: Secrets, *, now: datetime | None = None, tolerance: timedelta = TOLERANCE
) -> CloudEvent:
    """Verify a request and return its event. Pure: it reads nothing but its arguments and the clock.

    Raises `UnverifiedMessage` if it was not signed by one who has a secret, or too long ago, and `MalformedMessage` if
    it is no CloudEvent in structured mode: in binary mode the attributes are headers, which the signature does not
    cover. The same event may come again: handle it once by its id, or let the inbox do so.
    """
    signing.verify(headers, body, now=now, tolerance=tolerance)
    kind = _header(headers, "content-type") or ""
    if not kind.lower().startswith("application/cloudevents"):
        raise MalformedMessage(
            f"the request is {kind or 'of no content type'}: send events in structured mode, as {STRUCTURED}; "
            "the signature covers the body, and no attribute that is a header"
        )
    return parse({}, body, content_type=kind)


Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Receiver:
    """The receiving end as an ASGI application, to be mounted in Starlette, FastAPI, Django or any other.

    It answers 204 when `handle` has returned, 400 and 401 for what cannot be used, 413 for what is too large. An error
    of `handle` is raised for the server, which answers 500: the sender tries again.
    """

    def __init__(
        self,
        handle: Callable[[CloudEvent], Awaitable[None]],
        *secrets: str,
        tolerance: timedelta = TOLERANCE,
        largest: int = 1_048_576,
    ) -> None:
        """Take what is done with an event, the secrets that count, and the most bytes of a body."""
        self._handle = handle
        self._signing = Secrets(*secrets)
        self._tolerance = tolerance
        self._largest = largest

    async def __call__(self, scope: Scope, parts: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"webhooks come by http, not {scope['type']}")
        if scope["method"] != "POST":
            await _answer(send, HTTPStatus.METHOD_NOT_ALLOWED, "send events by POST", (b"allow", b"POST"))
            return
        if (body := await self._body(parts)) is None:
            await _answer(send, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"more than {self._largest} bytes")
            return
        try:
            event = receive(scope["headers"], body, self._signing, tolerance=self._tolerance)
        except UnverifiedMessage as error:
            await _answer(send, HTTPStatus.UNAUTHORIZED, str(error))
        except MalformedMessage as error:
            await _answer(send, HTTPStatus.BAD_REQUEST, str(error))
        else:
            await self._handle(event)
            await _answer(send, HTTPStatus.NO_CONTENT, "")

    async def _body(self, parts: Receive) -> bytes | None:
        body = bytearray()
        while True:
            part = await parts()
            if part["type"] == "http.disconnect":
                raise ConnectionResetError("the sender has left in the middle of its request")
            body += part.get("body", b"")
            if len(body) > self._largest:
                return None
            if not part.get("more_body", False):
                return bytes(body)


async def _answer(send: Send, status: HTTPStatus, text: str, *headers: tuple[bytes, bytes]) -> None:
    body = text.encode()
    about = [(b"content-type", b"text/plain; charset=utf-8"), *headers] if body else [*headers]
    await send({"type": "http.response.start", "status": int(status), "headers": about})
    await send({"type": "http.response.body", "body": body})
