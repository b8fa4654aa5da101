"""From stored events to the leaves of the tree: exactly what the database holds of each, written for any language."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, TypeAlias

import msgspec

from ensue.log import Postgres, Steps
from ensue.log.dialect import Dialect, NotUtf8
from ensue.seals.verifier import TAG

Fields: TypeAlias = tuple[Any, ...]
"""What is hashed of an event, in the order of `verifier.FIELDS`: text, numbers, None; or an object for what is none."""

_encode = msgspec.json.Encoder().encode


def entry_of(fields: Fields) -> bytes:
    """Return what is hashed of an event, as `verifier.entry_of` does, faster."""
    return _encode((TAG, *fields))


def leaf_of(fields: Fields) -> bytes:
    """Return the hash of an event's leaf."""
    return sha256(b"\0" + _encode((TAG, *fields))).digest()


def read_fields(dialect: Dialect, after: int, until: int, limit: int) -> Steps[list[Fields]]:
    """Read the first events between two positions as they are hashed, in position order."""
    asked = {"after": after, "until": until, "limit": limit}
    if isinstance(dialect, Postgres):
        return [(*row[:-1], _in_utc(row[-1])) for row in (yield dialect.sql["sealable"](**asked))]
    try:
        rows = yield dialect.sql["sealable"](**asked)
    except NotUtf8:
        rows = yield dialect.sql["sealable_bytes"](**asked)
        return [tuple(map(_typed, row[: len(row) // 2], row[len(row) // 2 :])) for row in rows]
    return [tuple(map(_plain, row)) if _odd(row) else tuple(row) for row in rows]


def _in_utc(moment: str) -> str:
    """Return a moment as PostgreSQL writes it as JSON, in UTC and with six digits; what is no moment as it is."""
    text = moment.strip('"')
    try:
        return datetime.fromisoformat(text).astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"
    except (ValueError, OverflowError):
        return text


# --- what only SQLite holds: any value in any column


_ODD = frozenset((bytes, float))


def _odd(row: Sequence[Any]) -> bool:
    return not _ODD.isdisjoint(map(type, row))


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"blob": value.hex()}
    return {"real": struct.pack(">d", value).hex()} if isinstance(value, float) else value


def _typed(type: str, value: Any) -> Any:
    """Return a value whose text has come as bytes."""
    if type != "text":
        return _plain(_number(type, value))
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"text": value.hex()}


def _number(type: str, value: Any) -> Any:
    """Return a number that has come as the bytes of its text; in a column of text SQLite makes that of it."""
    if isinstance(value, bytes) and type in ("integer", "real"):
        return int(value) if type == "integer" else float(value)
    return value
