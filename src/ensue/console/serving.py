"""Serving the console by itself, with uvicorn."""

from __future__ import annotations

import socket
from collections.abc import Callable
from types import FrameType

import uvicorn

from ensue.console.access import Tokens
from ensue.console.application import Console
from ensue.errors import ConsoleRefused


def serve(console: Console, host: str, port: int, *, listening: Callable[[str], None]) -> None:
    """Serve a console until SIGTERM or Ctrl-C; `listening` is told its address once it answers.

    Raises `ConsoleRefused` if it cannot listen there.
    """
    try:
        place = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise ConsoleRefused(f"the console cannot listen on {host}:{port}: {error.strerror}; try --port 0") from error
    config = uvicorn.Config(
        console,
        log_level="warning",
        lifespan="off",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=1,
    )
    shown = f"[{host}]" if ":" in host else host
    with place:
        listening(f"http://{shown}:{place.getsockname()[1]}/")
        _Server(config, console).run(sockets=[place])


class _Server(uvicorn.Server):
    """Lets go whoever listens to what is live before it waits for the rest."""

    def __init__(self, config: uvicorn.Config, console: Console) -> None:
        super().__init__(config)
        self._console = console

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._console.entrance.closing.set()
        super().handle_exit(sig, frame)


def check(console: Console, host: str) -> None:
    """Raise `ConsoleRefused` if a console without tokens would listen to more than this machine."""
    if host not in ("127.0.0.1", "::1", "localhost") and not isinstance(console.entrance.access, Tokens):
        raise ConsoleRefused(
            f"--host {host} opens the console to other machines: say who may come in, with --tokens FILE"
        )
