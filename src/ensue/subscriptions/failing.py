"""What a failure leaves behind: a reason and a traceback that any database can store, whatever was raised."""

from __future__ import annotations

import os
import traceback
from pathlib import Path
from types import TracebackType

from ensue.errors import BrokerUnavailable

_REASON = 4000
"""Characters of a reason that are kept."""
_TRACEBACK = 8000
_ENSUE = str(Path(__file__).parents[1]) + os.sep


class Failure:
    """The handler raised: tried again by the subscription's own policy, or, if it is final, never.

    `after`: not before so many seconds, if a broker has asked for that; it counts as an attempt like every other.
    """

    __slots__ = ("after", "error", "final", "reason", "trace")

    def __init__(self, error: BaseException, reason: str | None = None, *, final: bool = False) -> None:
        self.final = final
        self.error = type(error).__qualname__
        self.after = error.after if isinstance(error, BrokerUnavailable) else 0.0
        self.reason = reason or f"{type(error).__qualname__}: {_message(error)}"
        self.trace = _trace(error)


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as problem:  # noqa: BLE001 the user's __str__ may raise anything
        return f"its message cannot be had, __str__ raises {type(problem).__qualname__}"


def _trace(error: BaseException) -> str:
    try:
        lines = traceback.format_exception(type(error), error, _from_the_handler(error.__traceback__))
    except Exception as problem:  # noqa: BLE001 it looks at the user's objects
        return f"the traceback cannot be had: {type(problem).__qualname__}"
    return storable("".join(lines)[-_TRACEBACK:])


def _from_the_handler(trace: TracebackType | None) -> TracebackType | None:
    """Leave out how ensue called the handler, which says nothing about its error; keep all if it was never called."""
    found = trace
    while found is not None and found.tb_frame.f_code.co_filename.startswith(_ENSUE):
        found = found.tb_next
    return found or trace


def reason_to_keep(text: str) -> str:
    """Return a reason as it is logged and stored: not without end, and `storable`."""
    if len(text) > _REASON:
        text = f"{text[:_REASON]} … ({len(text)} characters)"
    return storable(text)


def storable(text: str) -> str:
    """Return text in which what is no character of UTF-8, or none to PostgreSQL, is written as an escape."""
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()
