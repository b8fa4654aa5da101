"""What is left of the sign-ups in the end."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import msgspec


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table."""

    design: str
    accounts: int
    subscribers: int
    mails: int
    ghosts: int
    """Entries at the newsletter or the mailer for somebody who has no account."""
    missing: int
    """Accounts without a newsletter entry, plus accounts without a mail."""
    duplicates: int
    """Entries beyond the first for one account at one service."""

    @property
    def flawless(self) -> bool:
        """Whether nothing is missing, doubled or a ghost."""
        return self.ghosts == self.missing == self.duplicates == 0


def count(design: str, accounts: Iterable[str], subscribers: Iterable[str], mails: Iterable[str]) -> Outcome:
    """Compare the addresses that the three services hold."""
    known = set(accounts)
    services = [Counter(subscribers), Counter(mails)]
    return Outcome(
        design=design,
        accounts=len(known),
        subscribers=services[0].total(),
        mails=services[1].total(),
        ghosts=sum(number for entries in services for email, number in entries.items() if email not in known),
        missing=sum(email not in entries for entries in services for email in known),
        duplicates=sum(number - 1 for entries in services for email, number in entries.items() if email in known),
    )


def entries(file: Path) -> list[str]:
    """Return the addresses that a service has carried out requests for."""
    connection = sqlite3.connect(file)
    try:
        return [email for (email,) in connection.execute("select email from entries")]
    finally:
        connection.close()
