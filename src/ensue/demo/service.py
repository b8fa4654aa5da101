"""The newsletter and the mailer: a real HTTP service in a process of its own, with the faults of the schedule.

`python -m ensue.demo.service NAME FILE SEED` prints its port and serves until it is killed.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from ensue.demo.schedule import NO_ANSWER_SECONDS, SLOW_SECONDS, service_fault


class Service:
    """Keeps one entry per request, unless the request carries an Idempotency-Key that it has seen."""

    def __init__(self, name: str, file: Path, seed: int) -> None:
        self._name = name
        self._seed = seed
        self._lock = threading.Lock()
        self._requests: dict[str, int] = {}
        self._database = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
        self._database.execute("pragma synchronous = off")  # the service is never the one that dies here
        self._database.execute("create table entries (email text not null, idempotency_key text unique)")

    def post(self, email: str, key: str | None) -> int:
        """Carry out one request; return the HTTP status."""
        with self._lock:
            number = self._requests[email] = self._requests.get(email, 0) + 1
        fault = service_fault(self._seed, self._name, email, number)
        if fault == "down":
            return 503
        with self._lock:
            self._database.execute("insert or ignore into entries values (?, ?)", (email, key))
        if fault == "slow":
            time.sleep(SLOW_SECONDS)
        elif fault == "no answer":
            time.sleep(NO_ANSWER_SECONDS)
        return 201


def serve(name: str, file: Path, seed: int) -> None:
    """Serve until killed."""
    service = Service(name, file, seed)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            expected = int(self.headers["Content-Length"])
            content = self.rfile.read(expected)
            if len(content) < expected:  # the caller was killed while it asked
                self.close_connection = True
                return
            body = json.loads(content)
            status = service.post(body["email"], self.headers.get("Idempotency-Key"))
            try:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()
            except (BrokenPipeError, ConnectionResetError):  # the caller no longer waits
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: the faults are the point, not news."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            if not isinstance(sys.exception(), ConnectionError):  # a caller that was killed is no fault here
                super().handle_error(request, client_address)  # type: ignore[arg-type]

    server = Server(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
