"""The receiving end of webhooks, for web applications."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any

from ensue.brokers.webhooks.signing import TOLERANCE, Secrets, header_of
from ensue.contracts.cloudevents import STRUCTURED, CloudEvent, Headers, parse
from ensue.errors import MalformedMessage, UnverifiedMessage


def receive(
    headers: Headers, body: bytes, signing: Secrets, *, now: datetime | None = None, tolerance: timedelta = TOLERANCE
) -> CloudEvent:
    """Verify a request and return its event. Pure: it reads nothing but its arguments and the clock.

    Raises `UnverifiedMessage` if it was not signed by one who has a secret, or too long ago, and `MalformedMessage` if
    it is no CloudEvent in structured mode: in binary mode the attributes are headers, which the signature does not
    cover. The same event may come again: handle it once by its id.
    """
    signing.verify(headers, body, now=now, tolerance=tolerance)
    kind = _structured(headers)
    return parse({}, body, content_type=kind)


def _structured(headers: Headers) -> str:
    kind = header_of(headers, "content-type") or ""
    if not kind.lower().startswith("application/cloudevents"):
        raise MalformedMessage(
            f"the request is {kind or 'of no content type'}: send events in structured mode, as {STRUCTURED}; "
            "the signature covers the body, and no attribute that is a header"
        )
    return kind


Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Take = Callable[[str, bytes], Awaitable[None]]
"""Is given the content type and the body of a request that was signed."""


class Endpoint:
    """An ASGI application that lets in what is signed, to be mounted in Starlette, FastAPI, Django or any other.

    It answers 204 when `take` has returned, 401 for what is not signed, 413 for what is too large, and 400 for what is
    not in structured mode, or if `take` raises `MalformedMessage`. Another error is raised for the server, which
    answers 500: the sender tries again.
    """

    def __init__(
        self, take: Take, signing: Secrets, *, tolerance: timedelta = TOLERANCE, largest: int = 1_048_576
    ) -> None:
        """Take what is done with a request, the secrets that count, and the most bytes of a body."""
        self._take = take
        self._signing = signing
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
        headers = scope["headers"]
        try:
            self._signing.verify(headers, body, tolerance=self._tolerance)
        except UnverifiedMessage as error:
            await _answer(send, HTTPStatus.UNAUTHORIZED, str(error))
            return
        try:
            await self._take(_structured(headers), body)
        except MalformedMessage as error:
            await _answer(send, HTTPStatus.BAD_REQUEST, str(error))
        else:
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


class Receiver(Endpoint):
    """The receiving end with a function of your own, which gets the event: again and again until it returns.

    An event that it does not understand is answered with 400, like what is no CloudEvent: raise `MalformedMessage`.
    """

    def __init__(
        self,
        handle: Callable[[CloudEvent], Awaitable[None]],
        *secrets: str,
        tolerance: timedelta = TOLERANCE,
        largest: int = 1_048_576,
    ) -> None:
        """Take what is done with an event, the secrets that count, and the most bytes of a body."""

        async def take(kind: str, body: bytes) -> None:
            await handle(parse({}, body, content_type=kind))

        super().__init__(take, Secrets(*secrets), tolerance=tolerance, largest=largest)


async def _answer(send: Send, status: HTTPStatus, text: str, *headers: tuple[bytes, bytes]) -> None:
    body = text.encode()
    about = [(b"content-type", b"text/plain; charset=utf-8"), *headers] if body else [*headers]
    await send({"type": "http.response.start", "status": int(status), "headers": about})
    await send({"type": "http.response.body", "body": body})
