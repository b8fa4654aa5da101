"""What is answered when something is wrong: a status, and a sentence for people."""

from __future__ import annotations

import msgspec

from ensue.errors import (
    AggregateNotFound,
    ConsoleRefused,
    EnsueError,
    NotMigrated,
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


def told(error: Exception) -> str:
    """Return what people are told about an error."""
    return str(error) if isinstance(error, EnsueError | msgspec.MsgspecError) else f"the database says: {error}".strip()
