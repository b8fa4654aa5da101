"""The entrance: who sends a request, and what a view is given for it."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Mapping
from urllib.parse import parse_qsl

from starlette.requests import Request

from ensue.app import App
from ensue.console.access import Recognise, Tokens, Visitor
from ensue.console.guarding import csrf_of
from ensue.console.jobs import Jobs
from ensue.console.pulse import Pulse
from ensue.console.visits import Visit
from ensue.errors import ConsoleRefused

logger = logging.getLogger("ensue.console")

_MOST = 2_000_000
"""Bytes that a request may carry."""


class Entrance:
    """What a console is about, and who may come in."""

    def __init__(self, app: App, access: Recognise, also: tuple[App, ...]) -> None:
        self.app = app
        self.access = access
        self.also = also
        self.pulse = Pulse(app)
        self.jobs = Jobs()
        self.closing = asyncio.Event()
        """Whoever listens is let go."""

    async def visitor(self, request: Request) -> Visitor | None:
        """Return who sends a request."""
        found = self.access(request)
        visitor = await found if inspect.isawaitable(found) else found
        if visitor is None and (request.method != "GET" or "authorization" in request.headers):
            refused(request, None, "nobody is known by what it holds")
        return visitor

    def visit(self, request: Request, visitor: Visitor, form: Mapping[str, str] | None = None) -> Visit:
        """Put together what views need."""
        csrf, _ = csrf_of(request)
        signs_out = isinstance(self.access, Tokens)
        return Visit(request, visitor, self.app, self.pulse, self.jobs, csrf, form or {}, self.also, signs_out)


def refused(request: Request, visitor: Visitor | None, why: object) -> None:
    """Say in the log that somebody was refused: whoever is known by name, a stranger by address."""
    who = repr(visitor.name) if visitor is not None else request.client.host if request.client else "somebody"
    logger.warning("refused %s %s %r: %s", who, request.method, request.url.path, why)


def root_of(request: Request) -> str:
    """Return the path below which the console is mounted, without a slash at its end."""
    return str(request.scope.get("root_path", "")).rstrip("/")


def inside(path: str) -> str:
    """Return a path below the root; never another site's address."""
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() else "/"


async def fields_of(request: Request) -> list[tuple[str, str]]:
    """Return the fields of a form; raise `ConsoleRefused` for too many, or too much in them."""
    body = await body_of(request)
    try:
        return parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=1000)
    except ValueError as error:
        raise ConsoleRefused("a form may have a thousand fields") from error


async def body_of(request: Request) -> bytes:
    """Return what a request carries; raise `ConsoleRefused` for too much."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST:
            raise ConsoleRefused(f"a request may carry {_MOST:,} bytes")
    return body
