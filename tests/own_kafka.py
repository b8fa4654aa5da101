"""A server that speaks Kafka's protocol, from the wheel `noida-db`: groups, offsets, producers with numbers.

It is no Kafka: it acknowledges before the data is durable, has one node, and neither TLS nor users. For these there is
something in front of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import socket
import struct
from collections.abc import Generator
from pathlib import Path
from typing import Self
from urllib.parse import quote

from tests.broker_servers import Certificates, Program
from tests.broker_suite import SECRET, Wanted
from tests.servers import NoServer
from tests.tcp_proxy import Proxy


class OwnKafka(Program):
    """One node; `kafka://` URLs lead to it, or with TLS to a proxy in front of it that speaks it."""

    def __init__(self, wanted: Wanted = Wanted()) -> None:  # noqa: B008
        super().__init__("kafka")
        self.wanted = wanted
        self._terminator: Proxy | None = None
        self._gate: Gate | None = None
        if wanted.proxy is not None:
            self._stand_in(wanted.proxy)

    @property
    def url(self) -> str:
        if self._terminator is not None:
            return f"kafkas://127.0.0.1:{self._terminator.port}?timeout=5&ca={self.certificates.ca}"
        if self._gate is not None:
            who = f"ensue:{quote(SECRET, safe='')}"
            return f"kafka://{who}@127.0.0.1:{self._gate.port}?timeout=5&partitions=4"
        port = self.wanted.proxy.port if self.wanted.proxy else self.port
        return f"kafka://127.0.0.1:{port}?timeout=5&partitions=4"

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        if self.wanted.tls:
            self.certificates = Certificates(self.folder)
            self._terminator = Proxy(self.port, self.certificates.context())
            self._stand_in(self._terminator)
            await self._terminator.__aenter__()
        if self.wanted.password:
            self._gate = Gate(self.port)
            await self._gate.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._terminator is not None:
            await self._terminator.__aexit__(None, None, None)
        if self._gate is not None:
            await self._gate.__aexit__()
        await super().__aexit__()

    def command(self) -> list[str]:
        settings = ["--only", "kafka", "--kafka-port", str(self.port), "--data-dir", str(self.folder / "data")]
        return [_noida(), "start", *settings]

    def answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=2):
            return True
        return False

    async def make_room(self) -> None:
        raise NotImplementedError("it is never full")

    def _stand_in(self, proxy: Proxy) -> None:
        """Let a proxy say that it is where the server is: clients connect to where they are told the nodes are."""
        proxy.target = self.port
        proxy.rewrite = lambda answer: answer.replace(_place(self.port), _place(proxy.port))


class Gate:
    """Stands before a server and lets nobody in but the user `ensue` with the suite's password, by SASL PLAIN."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._let_through(reader, writer))
        self._tasks.add(task)

    async def _let_through(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                if await self._admit(reader, writer, far_reader, far_writer):
                    await asyncio.gather(self._pass_on(reader, far_writer), self._pass_back(far_reader, writer))
        finally:
            writer.transport.abort()
            far_writer.transport.abort()

    async def _admit(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        far_reader: asyncio.StreamReader,
        far_writer: asyncio.StreamWriter,
    ) -> bool:
        while True:
            request = await _frame(reader)
            kind, version, number, name = struct.unpack(">hhih", request[:10])
            rest = request[10 + max(0, name) :]
            match kind:
                case 18:  # what it can do: also this
                    far_writer.write(_framed(request))
                    answer = await _frame(far_reader)
                    (count,) = struct.unpack(">i", answer[6:10])
                    more = struct.pack(">hhhhhh", 17, 0, 1, 36, 0, 0)
                    writer.write(_framed(answer[:6] + struct.pack(">i", count + 2) + more + answer[10:]))
                case 17:
                    writer.write(_framed(struct.pack(">ihih", number, 0, 1, 5) + b"PLAIN"))
                case 36:
                    right = rest[4:].split(b"\0")[1:] == [b"ensue", SECRET.encode()]
                    lifetime = struct.pack(">q", 0) if version else b""
                    writer.write(_framed(struct.pack(">ihhi", number, 0 if right else 58, -1, 0) + lifetime))
                    return right
                case _:
                    return False

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()

    async def _pass_back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(65536):
            writer.write(chunk.replace(_place(self._target), _place(self.port)))
            await writer.drain()


async def _frame(reader: asyncio.StreamReader) -> bytes:
    (size,) = struct.unpack(">i", await reader.readexactly(4))
    return await reader.readexactly(size)


def _framed(content: bytes) -> bytes:
    return struct.pack(">i", len(content)) + content


@contextlib.contextmanager
def shared_kafka() -> Generator[str]:
    """Yield host and port of a server: ENSUE_TEST_KAFKA, a real cluster, else one from the wheel."""
    if where := os.environ.get("ENSUE_TEST_KAFKA"):
        yield where
        return
    server = OwnKafka()
    with contextlib.closing(server):
        server.start_now()
        yield f"127.0.0.1:{server.port}"


def _place(port: int) -> bytes:
    return b"127.0.0.1" + struct.pack(">i", port)


def _noida() -> str:
    found = importlib.util.find_spec("noida_db")
    if found is None or found.origin is None:
        raise NoServer("no Kafka at ENSUE_TEST_KAFKA, and the wheel noida-db is not installed")
    program = Path(found.origin).with_name("noida-db")
    if not os.access(program, os.X_OK):
        program.chmod(0o755)
    return str(program)
