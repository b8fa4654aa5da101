"""What differs between the databases that can hold a log."""

from __future__ import annotations

import inspect
import warnings
from typing import ClassVar, Literal, Protocol

from ensue.errors import AggregateRuleWarning, EnsueError, SecondAggregate
from ensue.events import Receipt, Written
from ensue.log.statements import Library, Query, Steps

AggregateRule = Literal["enforce", "warn", "off"]
"""What happens when one transaction records in the streams of two aggregates."""
_BETWEEN = frozenset({"ensue", "sqlalchemy", "django", "asyncio", "contextlib"})
"""What stands between a user's line and its recording."""


class NotUtf8(EnsueError):
    """A text in the database is not valid UTF-8, which only SQLite lets happen."""


class Fault:
    """A driver's error, in terms that every driver of the dialect shares."""

    __slots__ = ("code", "constraint", "detail", "message")

    def __init__(
        self, code: str | None, message: str, detail: str | None = None, constraint: str | None = None
    ) -> None:
        self.code = code
        self.message = message
        self.detail = detail
        self.constraint = constraint


class Dialect(Protocol):
    """One database: its SQL files and the few operations that are not the same SQL everywhere."""

    label: ClassVar[str]
    """What people call it."""
    begin: ClassVar[Query]
    """Begins a transaction that writes, on a connection of ensue's own."""
    impatient: ClassVar[tuple[Query, ...]]
    """Makes the transaction wait for others' locks for ten seconds at most."""
    schema: str
    sql: Library

    def append(
        self,
        written: list[Written],
        *,
        stream: str | None,
        expected: int | None,
        dedupe: str | None,
        log: str,
        rule: AggregateRule,
    ) -> Steps[Receipt]:
        """Record events in the open transaction."""
        ...

    def prepare(self) -> list[Query]:
        """Return what has to run before the first migration."""
        ...

    def finish(self) -> list[Query]:
        """Return what has to run after every migration: the functions in their present form."""
        ...

    def translate(self, fault: Fault, where: str) -> EnsueError | None:
        """Return ensue's error for a driver's, None if it is not ensue's business; `where` is the log, for people."""
        ...


def warn_of_second(first: str, second: str | None) -> None:
    """Say what the rule would have refused, at the line of whoever called ensue."""
    level, frame = 1, inspect.currentframe()
    while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in _BETWEEN:
        level, frame = level + 1, frame.f_back
    warnings.warn(str(SecondAggregate(first, str(second))), AggregateRuleWarning, stacklevel=level)
