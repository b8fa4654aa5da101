"""Which faults a sign-up meets: decided by the seed alone, so that every design meets the same ones."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

Fault = Literal["none", "down", "slow", "no answer"]

SLOW_SECONDS = 0.1
NO_ANSWER_SECONDS = 0.4
CLIENT_TIMEOUT = 0.25
"""How long a caller waits for a service; a service that gives no answer in time has done its work all the same."""


def _chance(*what: object) -> random.Random:
    return random.Random(repr(what))


def service_fault(seed: int, service: str, email: str, request: int) -> Fault:
    """Return what happens to the n-th request (1, 2, …) about an address; from the fourth on, all is well."""
    if request > 3:
        return "none"
    drawn = _chance(seed, service, email, request).random()
    if drawn < 0.06:
        return "down"
    if drawn < 0.10:
        return "slow"
    return "no answer" if drawn < 0.14 else "none"


@dataclass(frozen=True)
class Planned:
    """A sign-up, and what goes wrong on the caller's side."""

    number: int
    email: str
    commit_fails: bool
    killed_after_step: int | None
    """The step (1, 2, …) after which the accounts process is killed, at the first try."""
    worker_killed: bool
    """Whether the worker is killed while this sign-up is made."""


def plan(seed: int, number: int) -> Planned:
    """Return what happens around one sign-up."""
    chance = _chance(seed, "caller", number)
    commit_fails = chance.random() < 0.03
    killed = chance.random() < 0.02
    return Planned(
        number=number,
        email=f"user{number}@example.org",
        commit_fails=commit_fails,
        killed_after_step=chance.choice((1, 2, 3)) if killed and not commit_fails else None,
        worker_killed=chance.random() < 0.02,
    )
