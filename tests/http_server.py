"""A small HTTP server in the test's own event loop, for what sends requests."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Self


@dataclass
class Request:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Answer:
    status: int = 204
    headers: dict[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""


class HttpServer:
    """Answers every request as `answer` says, and remembers it."""

    def __init__(self, answer: Callable[[Request], Awaitable[Answer]], tls: ssl.SSLContext | None = None) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        self.most = 0
        """Requests at a time, at most."""
        self._now = 0
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        assert self._server is not None
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/hook"

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.ensure_future(self._converse(reader, writer)))

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                while True:
                    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                    method, target, _ = head[0].split(" ")
                    pairs = (line.split(": ", 1) for line in head[1:] if line)
                    headers = {name.lower(): value for name, value in pairs}
                    body = await reader.readexactly(int(headers.get("content-length", "0")))
                    request = Request(method, target, headers, body)
                    self.requests.append(request)
                    self._now += 1
                    self.most = max(self.most, self._now)
                    try:
                        answer = await self.answer(request)
                    finally:
                        self._now -= 1
                    self._write(writer, answer)
                    await writer.drain()
        finally:
            writer.transport.abort()

    def _write(self, writer: asyncio.StreamWriter, answer: Answer) -> None:
        lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in answer.headers.items()]
        if answer.status != 204:
            lines.append(f"content-length: {len(answer.body)}")
        writer.write("\r\n".join([*lines, "", ""]).encode() + answer.body)
