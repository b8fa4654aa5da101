"""What `ensue replay` was asked for, beside the name: who, of which events, and how it answers."""

from __future__ import annotations

from dataclasses import dataclass

from ensue.cli.target import Target


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The options that its forms have in common."""

    target: Target
    name: str
    """Of the projection, the reaction or the relay."""
    since: int | None
    """The position behind which it begins."""
    until: int | None
    types: tuple[str, ...]
    keys: tuple[str, ...]
    lake: tuple[str, ...]
    """The options that say from which lake, and whose events: to be typed again."""
    actor: str
    reason: str
    dry_run: bool
    yes: bool
    json: bool
