"""What is answered when something is wrong: a status, and a sentence for people."""

from __future__ import annotations

import msgspec

from ensue.errors import (
    AggregateNotFound,
    ConsoleRefused,
    EnsueError,
    NotMigrated,
    UndecodableEvent,
    UnknownName,
)
from ensue.log import passes


def status_of(error: Exception) -> int:
    """Return the HTTP status of an error that somebody can mend; raise any other one."""
    match error:
        case ConsoleRefused():
            return 403
        case UnknownName() | AggregateNotFound():
            return 404
        case msgspec.ValidationError() | msgspec.DecodeError():
            return 422
        case NotMigrated():
            return 503
        case EnsueError():
            return 503 if passes(error) else 409
        case _ if passes(error):
            return 503
        case _:
            raise error


def told(error: Exception, *, payloads: bool) -> str:
    """Return what people are told about an error; without `payloads` not why an event cannot be read."""
    if isinstance(error, UndecodableEvent) and not payloads:
        return f"an event of {error.type!r} cannot be read; why is hidden, as what events hold"
    return str(error) if isinstance(error, EnsueError | msgspec.MsgspecError) else f"the database says: {error}".strip()
