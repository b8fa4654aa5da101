"""A projection writes tables and nothing else: what would reach out of the database is refused where it is tried.

Python tells every audit hook when a program is about to connect, to send, to look a name up or to start a process (PEP
578). The hook is installed once, with the first projection, and acts only inside a projection's function. What goes out
over a connection that was open before is not seen.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache

from ensue.errors import LeavesTheDatabase
from ensue.log import muted

_REACHING_OUT = frozenset(
    (
        "ftplib.connect",
        "imaplib.open",
        "os.exec",
        "os.posix_spawn",
        "os.spawn",
        "os.startfile",
        "os.system",
        "poplib.connect",
        "smtplib.connect",
        "socket.connect",
        "socket.getaddrinfo",
        "socket.gethostbyname",
        "socket.sendmsg",
        "socket.sendto",
        "subprocess.Popen",
        "urllib.Request",
    )
)


@contextmanager
def quiet(label: str) -> Generator[None]:
    """Refuse inside the block what would reach out of the database; `label` says what is refused it."""
    token = muted.set(label)
    try:
        yield
    finally:
        muted.reset(token)


@cache
def listen() -> None:
    """Install the hook."""
    sys.addaudithook(_look)


def _look(event: str, _: object) -> None:
    if event in _REACHING_OUT and (label := muted.get()) is not None:
        raise LeavesTheDatabase(
            f"projection {label!r} is about to leave the database ({event}): a projection is rebuilt from the log, and "
            "whatever it does happens again then. Write tables here, and put the rest into a reaction: @app.on(…)"
        )
