"""Starlette, and FastAPI which is made of it: the worker inside a server, and requests that events belong to."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from ensue.app import App
from ensue.events import context, fault_in, new_id
from ensue.integrations.health import Pulse

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

_LONGEST = 200
"""Characters of a request id that are taken over."""


def lifespan(
    app: App, *, lease: float = 5.0, grace: float = 30.0, pulse: Pulse | None = None
) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    """Return a lifespan that runs the worker of an application as long as the server lives.

    `FastAPI(lifespan=lifespan(app))`. `pulse` watches the worker; the rest is as with `App.running`. To open more, call
    it in a lifespan of your own: `async with lifespan(app)(server): …`.
    """

    @asynccontextmanager
    async def run(_: Any) -> AsyncGenerator[None]:
        async with app.running(lease=lease, grace=grace) as worker:
            if pulse is not None:
                pulse.watch(worker)
            yield

    return run


class RequestContext:
    """A middleware: what a request records belongs to it, by its id and its trace.

    The correlation id is the request's `X-Request-ID`, or a new one, and the answer says it; `traceparent` is taken
    over. Any ASGI application will do: `api.add_middleware(RequestContext)`.
    """

    def __init__(self, app: Asgi) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        id = _header(scope, b"x-request-id", _LONGEST) or new_id()

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", id.encode())]
            await send(message)

        with context(correlation_id=id, traceparent=_header(scope, b"traceparent", _LONGEST)):
            await self._app(scope, receive, answer)


def _header(scope: Scope, name: bytes, at_most: int) -> str | None:
    """Return a header; None if it is not there, or cannot be stored as it is."""
    for key, value in scope["headers"]:
        text: str = value.decode("latin-1")
        if key == name and text.isascii() and fault_in(text, at_most) is None:
            return text
    return None
