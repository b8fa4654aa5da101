"""Workers that die at a commit of their own: before it, in the midst of it, or after it and before anything else.

In SQLite the process kills itself. With PostgreSQL it goes through a proxy, which kills it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import resource
import signal
import sqlite3
import sys
from enum import Enum
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Literal, NoReturn

from tests.tcp_proxy import Proxy, Streams, Way

Where = Literal["before", "during", "after"]

_HOUSEKEEPING = frozenset(("workers", "marks", "settled"))
"""Tables of which what happens to events does not depend, written by the clock."""


class Kind(Enum):
    """What a worker commits when it works on a process."""

    STEP = "a step, with its messages, its timers and the checkpoint"
    FIRED = "timers that have become events"
    ANSWER = "what the handler of a command has recorded"
    UNDONE = "that a compensation is done, with the next one"
    CHECKPOINTS = "how far the handlers are"

    @classmethod
    def of(cls, tables: set[str]) -> Kind:
        """Tell by what is written to."""
        signs = {"process_steps": cls.STEP, "timers": cls.FIRED, "processes": cls.UNDONE, "events": cls.ANSWER}
        return next((kind for table, kind in signs.items() if table in tables), cls.CHECKPOINTS)


class Commits:
    """Waits for the so manyth commit of a kind; who lives, and who holds which lease, does not matter."""

    def __init__(self, schema: str, kind: Kind, number: int) -> None:
        self._kind = kind
        self._left = number
        self._writing = re.compile(rf'(?:insert into|update|delete from)\s+"?{schema}"?[._](\w+)')
        self._recording = re.compile(rf'{schema}"?\.record\(')

    def come(self, tables: set[str]) -> bool:
        """Note what is about to be committed; tell whether it is the one."""
        found = bool(tables) and Kind.of(tables) is self._kind
        self._left -= found
        return found and self._left == 0

    def written(self, sql: str) -> set[str]:
        """Return what a statement writes to."""
        tables = set(self._writing.findall(sql)) - _HOUSEKEEPING
        if "set checkpoint" not in sql:
            tables.discard("partitions")  # it is about a lease
        if self._recording.search(sql):
            tables.add("events")
        return tables


class Conversation:
    """What goes over one connection, statement by statement."""

    def __init__(self, commits: Commits) -> None:
        self._commits = commits
        self._open = False
        self._tables: set[str] = set()

    def commits(self, sql: str) -> set[str]:
        """Return what a statement is about to commit; empty if nothing, or nothing that matters."""
        word = sql.split(None, 1)[0].lower() if sql.strip() else ""
        if word == "begin":
            self._open = True
        elif word == "rollback":
            self._open, self._tables = False, set()
        elif word == "commit":
            self._open = False
        else:
            self._tables |= self._commits.written(sql)
        if self._open:
            return set()
        found, self._tables = self._tables, set()
        return found


# --- SQLite: the process sees what it is about to execute


def die_at(kind: Kind, number: int, where: Where, file: Path, schema: str) -> None:
    """Let this process be killed at its so manyth commit of a kind to an SQLite file."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    commits = Commits(schema, kind, number)
    real = sqlite3.connect

    class Connection(sqlite3.Connection):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.set_trace_callback(partial(look, Conversation(commits)))

    def look(conversation: Conversation, sql: str) -> None:
        if sql.startswith("--"):  # of a trigger
            return
        if not commits.come(conversation.commits(sql)):
            return
        if where == "before":
            _die()
        elif where == "during":
            _tear(file)
        else:
            sys.setprofile(_die_outside)  # in this thread

    sqlite3.connect = partial(real, factory=Connection)  # type: ignore[assignment]


def _die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still alive")


def _tear(file: Path) -> None:
    """Let the system kill the process in the middle of the first page that it adds to the write-ahead log."""
    log = file.with_name(f"{file.name}-wal")
    size = log.stat().st_size + 2000
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def _die_outside(frame: FrameType, what: str, argument: object) -> None:
    """Die when the statement has been carried out: the first that happens in the thread that is not of this module."""
    if frame.f_code.co_filename != __file__:
        _die()


# --- PostgreSQL: the proxy sees what the process sends


class KillingProxy(Proxy):
    """Kills its client at a commit over any of its connections."""

    def __init__(self, target: int, commits: Commits, where: Where) -> None:
        super().__init__(target)
        self.commits = commits
        self.where = where
        self.victim = 0
        """The process that will be killed."""
        self.frozen = False
        """Nothing more comes through from the client: it is about to die."""

    def kill(self) -> None:
        os.kill(self.victim, signal.SIGKILL)

    def _ways(self, near: Streams, far: Streams) -> tuple[Way, Way]:
        talk = _Talk(self, near, far)
        return talk.up(), talk.down()


class _Talk:
    """One connection, message by message."""

    def __init__(self, proxy: KillingProxy, near: Streams, far: Streams) -> None:
        self._proxy = proxy
        self._near, self._far = near, far
        self._conversation = Conversation(proxy.commits)
        self._statements: dict[bytes, str] = {}
        self._bound = ""
        self._unanswered = 1  # the start
        self._answered = asyncio.Event()
        self._swallows = False

    async def up(self) -> None:
        reader = self._near[0]
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await self._forward(await _message(reader, typed=False))
            while True:
                message = await _message(reader)
                tables = self._commits(message)
                if self._proxy.frozen:
                    await asyncio.Event().wait()
                if self._proxy.commits.come(tables):
                    self._proxy.frozen = True
                    if self._proxy.where != "before":
                        await self._let_commit(message)
                    self._proxy.kill()
                    await asyncio.Event().wait()
                await self._forward(message)

    async def _let_commit(self, message: bytes) -> None:
        self._swallows = self._proxy.where == "during"
        await self._forward(message)
        while message[:1] not in b"QS":
            message = await _message(self._near[0])
            await self._forward(message)
        self._answered.clear()
        while self._unanswered:
            await self._answered.wait()
            self._answered.clear()

    async def _forward(self, message: bytes) -> None:
        self._unanswered += message[:1] in (b"Q", b"S")
        self._far[1].write(message)
        await self._far[1].drain()

    async def down(self) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                message = await _message(self._far[0])
                if not self._swallows:
                    self._near[1].write(message)
                    await self._near[1].drain()
                if message[:1] == b"Z":
                    self._unanswered -= 1
                    self._answered.set()

    def _commits(self, message: bytes) -> set[str]:
        kind, body = message[:1], message[5:]
        if kind == b"P":
            name, sql, _ = body.split(b"\0", 2)
            self._statements[name] = sql.decode()
        elif kind == b"B":
            self._bound = self._statements[body.split(b"\0", 2)[1]]
        elif kind == b"E":
            return self._conversation.commits(self._bound)
        elif kind == b"Q":
            return self._conversation.commits(body.rstrip(b"\0").decode())
        return set()


async def _message(reader: asyncio.StreamReader, *, typed: bool = True) -> bytes:
    head = await reader.readexactly(5 if typed else 4)
    return head + await reader.readexactly(int.from_bytes(head[-4:], "big") - 4)
