"""`/metrics`, `/healthz` and `/readyz`: for an ASGI server, or from a thread beside the worker."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Generator, MutableMapping
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from ensue.app import App
from ensue.integrations.health import Health, Pulse, keeping_up

if TYPE_CHECKING:
    from ensue.integrations.prometheus import Metrics

logger = logging.getLogger("ensue")

_encode = msgspec.json.Encoder().encode


class Page(NamedTuple):
    """An answer."""

    status: int
    content_type: str
    body: bytes


class Endpoints:
    """What is served. An ASGI application, too: mount it, or give it to a server.

    `/healthz`: whether the worker of this process lives; 404 where no `pulse` watches one. `/readyz`: whether the
    subscriptions keep up `within` so many seconds. Both answer 200 or 503, with the reasons as JSON. `/metrics`: where
    `metrics` are kept. They tell names, positions and reasons of failures, and no events: let no strangers in.
    """

    def __init__(
        self,
        app: App,
        *,
        pulse: Pulse | None = None,
        metrics: Metrics | None = None,
        within: float | timedelta | str = 60.0,
    ) -> None:
        self._app = app
        self._pulse = pulse
        self._metrics = metrics
        self._within = within

    def page(self, path: str, accept: str = "") -> Page:
        """Return what is at a path. It waits for the database, or for the worker's loop: not in an event loop."""
        match path.rstrip("/").rpartition("/")[2]:
            case "healthz" if self._pulse is not None:
                return _told(self._pulse.feel())
            case "readyz":
                return self._asked(lambda: _told(keeping_up(self._app, self._within)))
            case "metrics" if (metrics := self._metrics) is not None:
                return self._asked(lambda: Page(200, *metrics.exposition(accept)))
            case _:
                return Page(404, "text/plain; charset=utf-8", b"there are /healthz, /readyz and /metrics\n")

    def _asked(self, ask: Callable[[], Page]) -> Page:
        """Ask the database; that it cannot be asked is an answer."""
        try:
            return ask()
        except Exception as error:  # noqa: BLE001 said, and logged: who cannot be asked is not ready
            logger.warning("the log of %s cannot be asked: %s", self._app.name, error)
            problem = f"the log cannot be asked: {type(error).__name__}: {str(error).strip()}"
            return _told(Health(well=False, problems=(problem,), facts={}))

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        """Answer a request as an ASGI application."""
        if scope["type"] != "http":
            raise NotImplementedError(f"ensue's endpoints are for HTTP, not for {scope['type']}")
        accept = b"".join(value for name, value in scope["headers"] if name == b"accept").decode("latin-1")
        page = await asyncio.to_thread(self.page, scope["path"], accept)
        headers = [(b"content-type", page.content_type.encode()), (b"content-length", b"%d" % len(page.body))]
        await send({"type": "http.response.start", "status": page.status, "headers": headers})
        await send({"type": "http.response.body", "body": page.body})


def _told(health: Health) -> Page:
    body = _encode({"well": health.well, "problems": health.problems, **health.facts}) + b"\n"
    return Page(200 if health.well else 503, "application/json", body)


@contextmanager
def served(endpoints: Endpoints, host: str, port: int) -> Generator[int]:
    """Serve them by threads of their own as long as the block lasts; yield the port, a free one for 0.

    Whoever blocks the worker's event loop does not block them. Raises `OSError` if the port is taken.
    """

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    class Handler(BaseHTTPRequestHandler):
        timeout = 10  # seconds for a client that says nothing

        def do_GET(self) -> None:
            page = endpoints.page(self.path.partition("?")[0], self.headers.get("Accept", ""))
            self.send_response(page.status)
            self.send_header("Content-Type", page.content_type)
            self.send_header("Content-Length", str(len(page.body)))
            self.end_headers()
            self.wfile.write(page.body)

        do_HEAD = do_GET  # noqa: N815 the name is the library's

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing of requests."""

    with Server((host, port), Handler) as server:
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="ensue-http", daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
