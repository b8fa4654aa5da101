"""The entrance: who sends a request, and what a view is given for it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping

from starlette.requests import Request

from ensue.app import App
from ensue.console.access import Recognise, Visitor
from ensue.console.guarding import csrf_of
from ensue.console.jobs import Jobs
from ensue.console.pulse import Pulse
from ensue.console.visits import Visit
from ensue.errors import ConsoleRefused

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
        return await found if inspect.isawaitable(found) else found

    def visit(self, request: Request, visitor: Visitor, form: Mapping[str, str] | None = None) -> Visit:
        """Put together what views need."""
        csrf, _ = csrf_of(request)
        return Visit(request, visitor, self.app, self.pulse, self.jobs, csrf, form or {}, self.also)


def root_of(request: Request) -> str:
    """Return the path below which the console is mounted, without a slash at its end."""
    return str(request.scope.get("root_path", "")).rstrip("/")


def inside(path: str) -> str:
    """Return a path below the root; never another site's address."""
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() else "/"


async def body_of(request: Request) -> bytes:
    """Return what a request carries; raise `ConsoleRefused` for too much."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST:
            raise ConsoleRefused(f"a request may carry {_MOST:,} bytes")
    return body
