"""A RabbitMQ of one's own, from Debian's package, for tests that stop, crash or fill it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Self

from tests.servers import NoServer, free_port

READY_WITHIN = 60.0  # seconds

GUARD = """
read -r _
kill -KILL -"$1" 2>/dev/null
ERL_EPMD_PORT="$2" epmd -kill >/dev/null 2>&1
rm -rf "$0"
"""


class OwnRabbitMQ:
    """One node on 127.0.0.1 with its own data, cookie and name server, as the user who runs the tests."""

    def __init__(
        self,
        settings: str = "",
        certificates: tuple[Path, Path] | None = None,
        definitions: dict[str, Any] | None = None,
    ) -> None:
        """Take more lines for rabbitmq.conf, and what it is to have from the start, as RabbitMQ exports it.

        That has to include the user and password `tests`. With certificate and key it takes TLS on `tls_port`.
        """
        self.port, self.tls_port, self._dist, self._epmd = (free_port() for _ in range(4))
        self.name = f"ensue-{secrets.token_hex(4)}@localhost"
        self._settings = settings
        self._certificates = certificates
        self._definitions = definitions
        self._starting = threading.Lock()
        self._folder: Path | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._home = _home()

    # -- life

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start the node and wait until it takes connections; one that runs already is left as it is."""
        with self._starting:  # a test that is cancelled leaves the thread in which it does so
            if self._server is None:
                self._start()

    def _start(self) -> None:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="ensue-rabbitmq-"))
            (self._folder / "enabled_plugins").write_text("[].")
            (self._folder / "rabbitmq.conf").write_text(self._configuration())
            (self._folder / "definitions.json").write_text(json.dumps(self._definitions))
        with (self._folder / "out").open("ab") as out:
            self._server = subprocess.Popen(
                [str(self._home / "sbin" / "rabbitmq-server")],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                env=self._environment(),
                start_new_session=True,
            )
        self._watch()
        deadline = time.monotonic() + READY_WITHIN
        while not self._answers():
            if self._server.poll() is not None or time.monotonic() > deadline:
                raise NoServer(f"RabbitMQ does not start: {(self._folder / 'out').read_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop the node in good order."""
        self._end(signal.SIGTERM)

    def crash(self, *, settled: bool = False) -> None:
        """Kill the node, once it has written down which quorum queues it has; if it has `settled`, at once.

        RabbitMQ 3.10 does so every three minutes. A queue that is younger when its only node is killed comes back
        empty and without a leader, whatever was confirmed.
        """
        if not settled:
            self.ctl("eval", "[dets:sync(Table) || Table <- dets:all()].")
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def close(self) -> None:
        """End the node and remove its data."""
        self._end(signal.SIGKILL)
        if self._guard is not None:
            self._guard.communicate(b"\n")
            self._guard = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    # -- use

    @property
    def url(self) -> str:
        who = "guest:guest" if self._definitions is None else "tests:tests"
        return f"amqp://{who}@127.0.0.1:{self.port}/"

    def ctl(self, *arguments: str) -> str:
        """Run rabbitmqctl against the node; return what it prints."""
        done = subprocess.run(
            [str(self._home / "sbin" / "rabbitmqctl"), "--quiet", *arguments],
            capture_output=True,
            text=True,
            env=self._environment(),
            check=False,
        )
        if done.returncode != 0:
            raise AssertionError(f"rabbitmqctl {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    # -- how

    def _configuration(self) -> str:
        lines = [f"listeners.tcp.1 = 127.0.0.1:{self.port}", "disk_free_limit.absolute = 1MB", self._settings]
        if self._certificates is not None:
            certificate, key = self._certificates
            lines += [
                f"listeners.ssl.1 = 127.0.0.1:{self.tls_port}",
                f"ssl_options.cacertfile = {certificate}",
                f"ssl_options.certfile = {certificate}",
                f"ssl_options.keyfile = {key}",
                "ssl_options.verify = verify_none",
            ]
        if self._definitions is not None:
            lines.append(f"load_definitions = {self._folder}/definitions.json")
        return "\n".join(lines) + "\n"

    def _environment(self) -> dict[str, str]:
        assert self._folder is not None
        folder = str(self._folder)
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "LC_ALL": "C.UTF-8",
            "HOME": folder,  # for the cookie
            "ERL_EPMD_PORT": str(self._epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_RELAXED_COMMAND_CHECK": "1",  # the name server may be ended while it knows a node
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_DIST_PORT": str(self._dist),
            "RABBITMQ_CONF_ENV_FILE": f"{folder}/none",
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/enabled_plugins",
            "RABBITMQ_MNESIA_BASE": f"{folder}/data",
            "RABBITMQ_LOG_BASE": f"{folder}/log",
            "RABBITMQ_PID_FILE": f"{folder}/pid",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none",
        }

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"AMQP\x00\x00\x09\x01")
                connection.settimeout(5)
                return connection.recv(1) == b"\x01"
        except OSError:
            return False

    def _end(self, how: signal.Signals) -> None:
        if self._server is None:
            return
        if how == signal.SIGKILL:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._server.pid, how)
        else:
            self._server.send_signal(how)
        try:
            self._server.wait(READY_WITHIN)
        finally:
            self._server = None
        deadline = time.monotonic() + READY_WITHIN
        while (_listens(self.port) or _listens(self._dist)) and time.monotonic() < deadline:
            time.sleep(0.02)  # the script that runs the node may end before it

    def _watch(self) -> None:
        """See to it that nothing stays behind, even if this process is killed: the guard's input ends."""
        assert self._server is not None
        if self._guard is not None:
            self._guard.kill()
            self._guard.communicate()
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", GUARD, str(self._folder), str(self._server.pid), str(self._epmd)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _home() -> Path:
    """Return where the package keeps its programs; Debian's own wrappers insist on another user."""
    found = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*"))
    if not found or shutil.which("erl") is None:
        raise NoServer("RabbitMQ is not installed (Debian: apt-get install rabbitmq-server)")
    return found[-1]


def user(name: str, password: str) -> dict[str, Any]:
    """Describe a user who may log in, for `definitions`."""
    salt = secrets.token_bytes(4)
    hashed = base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()
    return {
        "name": name,
        "password_hash": hashed,
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": ["administrator"],
    }


def permission(name: str) -> dict[str, str]:
    """Let a user do everything in the virtual host /."""
    return {"user": name, "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}
