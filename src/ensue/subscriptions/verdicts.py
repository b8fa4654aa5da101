"""What becomes of an event that has failed."""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

from ensue.events import Observer, Recorded
from ensue.events.personal import token_of
from ensue.subscriptions.declared import slot_of
from ensue.subscriptions.failing import Failure, reason_to_keep
from ensue.subscriptions.leasing import Lease
from ensue.subscriptions.outcomes import Backoff, Outcome, Park, Retry
from ensue.subscriptions.parking import NextStep, Parked, kept

logger = logging.getLogger("ensue")


class Verdict(NamedTuple):
    """What is to be done with a key: in so many seconds, or when a person says so."""

    step: NextStep
    delay: float | None
    reason: str
    trace: str | None


def set_aside(
    row: Recorded[Any],
    found: Verdict,
    lease: Lease,
    worker: str,
    *,
    attempt: int,
    revision: int,
    handled: bool = False,
) -> Parked:
    """Return a key that is set aside at an event, as the database is to hold it."""
    return Parked(
        subscription=lease.subscription,
        key=row.key,
        slot=slot_of(row.key),
        position=row.position,
        id=row.id_text,
        type=row.type,
        next_step=found.step,
        delay=found.delay,
        attempt=attempt,
        reason=found.reason if found.step == "skip" else kept(row, found.reason),  # ensue's own words
        traceback=None if found.trace is None else kept(row, found.trace),
        worker=worker,
        revision=revision,
        epoch=lease.epoch,
        handled=handled,
    )


def tell(parked: Parked, observer: Observer | None) -> None:
    """Log that an event has failed, and what becomes of it."""
    if observer is not None:
        observer.failed(parked.subscription, waits=parked.next_step == "wait")
    logger.log(
        logging.ERROR if parked.next_step == "wait" else logging.WARNING,
        "%s: event %s (%s), attempt %d failed: %s; %s",
        parked.subscription,
        parked.id,
        parked.type,
        parked.attempt,
        "the event is personal, `ensue dead show` tells" if token_of(parked.reason) else parked.reason,
        "it waits for a person" if parked.delay is None else f"again in {parked.delay:.1f} s",
        extra={
            "ensue": {
                "subscription": parked.subscription,
                "event_id": parked.id,
                "position": parked.position,
                "event_type": parked.type,
                "key": parked.key,
                "attempt": parked.attempt,
            }
        },
    )


def verdict(outcome: Outcome | Failure, retry: Backoff, attempt: int, since_first: float) -> Verdict:
    """Judge a failed attempt (1, 2, …), so many seconds after the first."""
    step: NextStep = "retry"
    delay: float | None
    trace: str | None = None
    match outcome:
        case Retry(reason=reason):
            delay = outcome.delay
        case Park(reason):
            step, delay = "wait", None
        case Failure(reason=reason, trace=trace):
            delay = max(retry.wait(attempt), outcome.after)
            if outcome.final or retry.spent(attempt, since_first):
                step, delay = "wait", None
        case _:  # pragma: no cover: nothing else is a failure
            raise AssertionError(outcome)
    return Verdict(step, delay, reason_to_keep(reason), trace)
