"""A server that speaks as object storage does, and a way to it on which answers are lost."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.patience import until_sync
from tests.servers import free_port

# Moto looks whether a file is there and puts it in two steps, of which the storage that it stands for makes one.
_MOTO = """
import sys, threading
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.server import MotoRequestHandler
from werkzeug.serving import run_simple

moto, one = DomainDispatcherApplication(create_backend_app), threading.Lock()

def serially(environ, start_response):
    with one:
        return list(moto(environ, start_response))

run_simple("127.0.0.1", int(sys.argv[1]), serially, threaded=True, request_handler=MotoRequestHandler)
"""


@contextmanager
def amazon(home: Path) -> Iterator[str]:
    """Run a server that speaks as Amazon's does, with a bucket `lakes`; its address."""
    address = f"http://127.0.0.1:{(port := free_port())}"
    bucket = urllib.request.Request(f"{address}/lakes", method="PUT")
    with _running([sys.executable, "-c", _MOTO, str(port)], bucket, home):
        yield address


def to_amazon(address: str) -> dict[str, str]:
    """Return the environment in which `s3://lakes` is there."""
    return {
        "AWS_ENDPOINT_URL": address,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


class Way(ThreadingHTTPServer):
    """A proxy before object storage. Some of what it passes on it answers with an error, or hangs up without a word."""

    daemon_threads = True

    def __init__(self, storage: str) -> None:
        super().__init__(("127.0.0.1", 0), _Passing)
        self.storage = storage
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.loses: Callable[[str, str], str | None] = lambda _method, _path: None
        """Says of a request "dropped" or "unavailable" if its answer is to be lost, after the storage has acted."""
        self.heeding = True
        """Whether conditions are passed on."""
        self.lost: list[str] = []
        """What was lost, in order; only answers that something was done."""

    @contextmanager
    def open(self) -> Iterator[Way]:
        thread = threading.Thread(target=self.serve_forever)
        thread.start()
        try:
            yield self
        finally:
            self.shutdown()
            thread.join()
            self.server_close()


class _Passing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Way

    def _pass(self) -> None:
        way = self.server
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        if not way.heeding:
            headers.pop("if-none-match", None)
        with closing(HTTPConnection(way.storage.removeprefix("http://"), timeout=30)) as connection:
            connection.request(self.command, self.path, data, headers)
            answer = connection.getresponse()
            body = answer.read()
        lost = way.loses(self.command, self.path) if answer.status < 300 else None
        if lost is not None:
            way.lost.append(lost)
        if lost == "dropped":
            self.close_connection = True
            return
        self.send_response(503 if lost == "unavailable" else answer.status)
        if lost is not None:
            body = b""
        else:
            for name, value in answer.headers.items():
                if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                    self.send_header(name, value)
        length = answer.headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(body))
        self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass  # noqa: N815 the names are those of http.server

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def _running(command: list[str], request: urllib.request.Request, home: Path) -> Iterator[None]:
    """Run a server until the block ends; the request, which makes the bucket, is the first that it answers."""
    quiet = subprocess.DEVNULL
    server = subprocess.Popen(command, stdout=quiet, stderr=quiet, env=os.environ | {"HOME": str(home)}, cwd=home)

    def made() -> bool:
        try:
            urllib.request.urlopen(request).close()
        except OSError:
            return False
        return True

    try:
        until_sync(made, seconds=60)
        yield
    finally:
        server.kill()
        server.wait()
