"""A way to PostgreSQL that can fall silent, as behind a router that has forgotten its connections."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit


class Proxy:
    """Forwards connections in the test's own event loop, until it is told to keep what comes over them for itself."""

    def __init__(self, url: str) -> None:
        self._to = urlsplit(url)
        self._open = asyncio.Event()
        self._open.set()
        self._pumps: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self.connections = 0
        """How many have been made through it."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        return self

    @property
    def url(self) -> str:
        """Where the database is, by way of the proxy."""
        port = self._server.sockets[0].getsockname()[1]
        return self._to._replace(netloc=f"{self._to.netloc.rpartition('@')[0]}@127.0.0.1:{port}").geturl()

    def silence(self) -> None:
        """Forward nothing more over the connections of today, and close none of them; new ones work."""
        self._open.clear()
        self._open = asyncio.Event()
        self._open.set()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        there, back = await asyncio.open_connection(self._to.hostname, self._to.port or 5432)
        self._writers += (writer, back)
        for source, target in ((reader, back), (there, writer)):
            pump = asyncio.ensure_future(self._pump(source, target, self._open))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, open: asyncio.Event) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                await open.wait()
                target.write(data)
                await target.drain()
        await open.wait()
        target.close()

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        pumps = tuple(self._pumps)
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        for writer in self._writers:
            writer.close()
