"""Where nothing may be recorded: inside functions that are called again when they are replayed."""

from __future__ import annotations

from contextvars import ContextVar

from ensue.errors import LeavesTheDatabase

muted: ContextVar[str | None] = ContextVar("ensue_muted", default=None)
"""What is being called here and may record nothing."""


def refuse_if_muted() -> None:
    """Raise `LeavesTheDatabase` where nothing may be recorded."""
    if (label := muted.get()) is not None:
        raise LeavesTheDatabase(
            f"projection {label!r} is about to record an event: it is called again when it is built anew, and would "
            "record it again. Record where the event came about, or in a handler of it: @app.translate(…)"
        )
