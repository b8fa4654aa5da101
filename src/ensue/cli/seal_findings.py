"""What can be wrong with a seal, as the doctor looks at it: quickly, without reading events."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Literal

from ensue.cli.output import ago, count, line
from ensue.cli.target import Target
from ensue.errors import UnusableKey

LATE = 60.0
"""Seconds, beyond three times what was declared, in which new events should have been signed."""


def seal_findings(target: Target) -> Iterator[tuple[Literal["ok", "note", "wrong"], str, str | None]]:
    """Yield the level, what was found, and how to mend it."""
    sealer = target.app.declarations.sealer
    try:
        found = target.app.seals.standing()
    except UnusableKey as error:
        if sealer is not None:
            yield "note", f"the seal cannot be looked at from here: {line(str(error))}", "name the public key"
        return
    if found is None:
        if sealer is not None:
            yield "note", "nothing has been sealed yet", target.command("run")
        return
    if found.broken is not None:
        yield "wrong", line(found.broken), target.command("verify")
        return
    late = 3 * (sealer.every if sealer is not None else 0.0) + LATE
    unsigned = found.size - found.signed_size
    at = "never" if found.signed_at is None else f"{ago(found.signed_at)} ago"
    long = found.signed_at is None or datetime.now(UTC) - found.signed_at > timedelta(seconds=late)
    if sealer is not None and unsigned and long:
        what = f"{count(unsigned, 'event')} not signed yet, and the last checkpoint was signed {at}"
        yield "wrong", what, "see what the worker says about sealing; " + target.command("seal")
    else:
        yield "ok", f"{count(found.signed_size, 'event')} signed, the last time {at}", None
