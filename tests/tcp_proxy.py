"""A TCP proxy between a client and a server, in the test's own event loop: it can fall silent, or break off.

`Aside` runs one for a test that has no event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeAlias

from tests.patience import until

Streams: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Way: TypeAlias = Coroutine[Any, Any, None]


class Proxy:
    """Listens on 127.0.0.1 and forwards to a port there, until it is told otherwise."""

    def __init__(self, target: int, tls: ssl.SSLContext | None = None) -> None:
        """Take the port to forward to, and the context with which clients are to speak TLS."""
        self.target = target
        self._tls = tls
        self.port = 0
        self.delay = 0.0
        """Seconds for which it holds back what it has just read, in each direction: a slow server."""
        self.rewrite: Callable[[bytes], bytes] | None = None
        """What is done to what the server sends, for a server that tells its clients where it is."""
        self.sent = 0
        """Bytes that clients have sent so far, whether or not they were forwarded."""
        self.received = 0
        """Bytes that the server has sent so far, whether or not they were forwarded."""
        self._up = asyncio.Event()
        self._down = asyncio.Event()
        self._refuses = False
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    # -- life

    async def __aenter__(self) -> Self:
        self.resume()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- faults

    def stall(self) -> None:
        """Forward nothing in either direction; connections stay, and new ones are taken."""
        self._up.clear()
        self._down.clear()

    def swallow_answers(self) -> None:
        """Forward what clients send, and hold back what the server answers."""
        self._down.clear()

    def resume(self) -> None:
        """Forward everything, what was held back first; take connections again."""
        self._refuses = False
        self._up.set()
        self._down.set()

    def cut(self) -> None:
        """Break off every connection, with all that was held back."""
        for writer in list(self._writers):
            writer.transport.abort()

    def refuse(self) -> None:
        """Break off every connection, and take no more."""
        self._refuses = True
        self.cut()

    async def until_sent(self, count: int) -> None:
        """Wait until clients have sent so many bytes more than `count`, the value of `sent` before."""
        await until(lambda: self.sent > count, "the client sends")

    # -- how

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refuses:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, far_writer}
        ways = [asyncio.ensure_future(way) for way in self._ways((reader, writer), (far_reader, far_writer))]
        self._tasks |= set(ways)
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            self._tasks -= set(ways)
            self._writers -= {writer, far_writer}
            writer.transport.abort()
            far_writer.transport.abort()

    def _ways(self, near: Streams, far: Streams) -> tuple[Way, Way]:
        """Return what forwards in each direction, the client's first."""
        return self._forward(near[0], far[1], self._up, up=True), self._forward(far[0], near[1], self._down, up=False)

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event, *, up: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(65536):
                if up:
                    self.sent += len(chunk)
                else:
                    self.received += len(chunk)
                    chunk = chunk if self.rewrite is None else self.rewrite(chunk)
                await gate.wait()
                await asyncio.sleep(self.delay)
                writer.write(chunk)
                await writer.drain()


class Aside:
    """Runs a proxy in a thread, for a test that has no event loop."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._proxy.__aenter__(), self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._proxy.__aexit__(None, None, None), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def tell(self, what: Callable[[], None]) -> None:
        """Have one of the proxy's methods called where it lives, and wait until it is done."""

        async def call() -> None:
            what()

        asyncio.run_coroutine_threadsafe(call(), self._loop).result()
