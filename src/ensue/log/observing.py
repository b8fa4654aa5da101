"""What others see of an SQLite log: what has been committed, whatever a transaction here has written since."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections import OrderedDict
from contextlib import closing
from urllib.parse import quote

from ensue.log.dialect import Fault
from ensue.log.place import Place
from ensue.log.statements import Call, Rows

_MOST = 8
_lock = threading.Lock()
_open: OrderedDict[tuple[str, int, int], sqlite3.Connection] = OrderedDict()
"""By path, device and inode: a file that was put in the place of another is another."""


def observe(call: Call, place: Place) -> Rows:
    """Read over a connection of its own. Whoever asks holds the write lock, so nobody commits meanwhile."""
    try:
        return _read(call, place)
    except sqlite3.Error as error:
        raise (place.dialect.translate(Fault(None, str(error)), place.shown) or error) from error


def _read(call: Call, place: Place) -> Rows:
    if place.in_memory:  # past the lock, which keeps us out; kept open, the connection would keep the log alive
        source = f"file:{quote(place.database)}?vfs=memdb&nolock=1&mode=ro"
        with closing(sqlite3.connect(source, uri=True)) as connection:
            return connection.execute(call.query.numbered, call.values).fetchall()
    with _lock:
        return _connection(place.database).execute(call.query.numbered, call.values).fetchall()


def _connection(path: str) -> sqlite3.Connection:
    about = os.stat(path)  # noqa: PTH116 a third of the price of Path's
    key = (path, about.st_dev, about.st_ino)
    connection = _open.get(key)
    if connection is None:
        connection = _open[key] = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        while len(_open) > _MOST:
            _open.popitem(last=False)[1].close()
    else:
        _open.move_to_end(key)
    return connection


_left_to_the_parent: list[object] = []


def _after_fork() -> None:
    """Leave the connections alone: SQLite's do not survive a fork, and closing them would harm the parent's."""
    global _lock
    _lock = threading.Lock()
    _left_to_the_parent.append(dict(_open))
    _open.clear()


os.register_at_fork(after_in_child=_after_fork)
