"""What a verification finds, and how it is said."""

from __future__ import annotations

from typing import Literal

import msgspec

Kind = Literal["changed", "deleted", "inserted", "reordered", "truncated", "replaced", "rewritten", "restored", "seal"]
"""What was done to the history; `seal`: only what proves it was damaged, the history itself holds."""

_MEND = {
    "changed": "compare it with a backup that `ensue verify` finds whole, and with the audit of the database: somebody "
    "has written to the table of events past ensue",
    "deleted": "find it in a backup that `ensue verify` finds whole; events go by `ensue prune` only, which says so in "
    "the log",
    "inserted": "find out who wrote it; an event is recorded by ensue only, at the end of the log",
    "reordered": "put back what a backup says that `ensue verify` finds whole",
    "truncated": "find the events in a newer backup; if one was restored, what came after it is lost to this log",
    "replaced": "find the events that were sealed in a backup that `ensue verify` finds whole",
    "rewritten": "compare with the tiles of an export (`ensue verify --checkpoint FOLDER` names the events), or with a "
    "backup",
    "restored": "restore a newer backup; if there is none, tell those who hold the checkpoint what was lost",
    "seal": "bring back the tables of the seal from a backup; the events are as they were sealed, unless something "
    "else is said of them",
}


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is not as it was sealed."""

    kind: Kind
    first_position: int
    last_position: int
    """It is about these positions and all between them."""
    events: int
    """How many events; 0: it is not known, or none."""
    what: str
    mend: str


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What was verified, and what was found."""

    origin: str
    size: int
    """How many events have been sealed."""
    position: int
    """The last of them."""
    since: int
    """Behind this position events were looked at; 0: all were."""
    checked: int
    """How many events were compared with their hashes."""
    pruned: int
    """How many sealed events are gone because they were pruned, which the log says; their hashes still hold."""
    unsealed: int
    """How many events have not been sealed yet: nothing is known about them."""
    checkpoints: int
    """With how many signed checkpoints the tree was compared."""
    outside: int
    """How many of them came from outside of the database."""
    findings: tuple[Finding, ...]
    more: int
    """How many findings there are beyond those."""

    @property
    def holds(self) -> bool:
        """True if everything is as it was sealed."""
        return not self.findings


def finding(kind: Kind, first: int, last: int, events: int, what: str) -> Finding:
    """Make a finding, with what to do about it."""
    return Finding(kind=kind, first_position=first, last_position=last, events=events, what=what, mend=_MEND[kind])


def where(first: int, last: int) -> str:
    """Say where it is."""
    return f"position {first}" if first == last else f"positions {first} to {last}"
