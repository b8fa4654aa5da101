"""What an observer is told of the calls of a handler."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from ensue.events import DONE, Act, Ending, Observer, Recorded, seen
from ensue.subscriptions.declared import Subscription
from ensue.subscriptions.failing import Failure
from ensue.subscriptions.outcomes import Delivery, Hold, Outcome, Park, Retry


async def witnessed(
    observer: Observer,
    subscription: Subscription,
    deliveries: Sequence[Delivery],
    call: Callable[[], Awaitable[Sequence[Outcome | Failure]]],
) -> Sequence[Outcome | Failure]:
    """Call a handler, and tell the observer that it begins and how it ends."""
    with _begin(observer, subscription, deliveries) as act:
        outcomes = await call()
        act.end([ending(each, of.recorded) for each, of in zip(outcomes, deliveries, strict=True)])
    return outcomes


def _begin(
    observer: Observer, subscription: Subscription, deliveries: Sequence[Delivery]
) -> AbstractContextManager[Act]:
    events = [seen(each.recorded, each.attempt) for each in deliveries]
    outlet = subscription.outlet
    if outlet is None:
        return observer.process(subscription.name, events)
    return observer.publish(subscription.name, outlet.system, [outlet.topics[each.type] for each in events], events)


def ending(outcome: Outcome | Failure, recorded: Recorded[Any]) -> Ending:
    """Say to an observer how a call has ended; of a personal event no reason, which may tell of the person."""
    found = _ending(outcome)
    return found if recorded.opener is None else Ending(found.how, error=found.error)


def _ending(outcome: Outcome | Failure) -> Ending:
    match outcome:
        case Failure():
            return Ending("failed", outcome.reason, outcome.error, outcome.trace)
        case Retry(reason=reason):
            return Ending("retry", reason)
        case Park(reason):
            return Ending("park", reason)
        case Hold(reason=reason):
            return Ending("hold", reason)
        case _:
            return DONE
