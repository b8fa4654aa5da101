"""How every subscription is, those that are only declared and those that are declared no more among them."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from ensue.app.app import App
from ensue.subscriptions.inspecting import LastError
from ensue.subscriptions.operating import ALL
from ensue.subscriptions.standings import Partition, Standing


class Standings(NamedTuple):
    """What the log says of the subscriptions of an application."""

    found: list[Standing]
    """Of those on which this code works: of each projection the build of its version."""
    others: list[Standing]
    """Of the rest: builds that are kept or are built by hand, subscriptions of other releases. Nobody has to work on
    those."""
    missing: list[str]
    """Declared, and not yet in the log."""


def standings_of(app: App, most: int = ALL) -> Standings:
    """Ask the log; what is behind is counted up to `most`. Raises what the database raises."""
    log = app.log
    every = app.operations.standings(most)
    with log.own.lend() as connection:
        mine = log.run(app.declarations.cursors(log, create=False), connection).declared
    there = {each.subscription for each in every}
    return Standings(
        found=[each for each in every if each.subscription in mine],
        others=[each for each in every if each.subscription not in mine],
        missing=sorted(app.declarations.missing(there)),
    )


def state_of(partition: Partition) -> str:
    """Say whether a partition is `worked` on, `expired` (its worker is dead), or `free` (nobody works on it)."""
    if partition.owner is None:
        return "free"
    return "expired" if partition.expired else "worked"


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """How a subscription is."""

    subscription: str
    state: str
    standing: Standing | None
    """None: the log does not know it yet."""
    workers: int
    free: int
    """Partitions that nobody works on."""
    last_error: LastError | None


def look(app: App, most: int = ALL) -> list[Seen]:
    """Return how every subscription is, those of the log first; what is behind is counted up to `most`."""
    found, others, missing = standings_of(app, most)
    errors = app.operations.last_errors()
    rows = [_row(each, _state(each), errors.get(each.subscription)) for each in found]
    for each in others:
        state = "beside" if app.declarations.declares(each.subscription) else "vanished"
        rows.append(_row(each, state, errors.get(each.subscription)))
    return sorted(rows, key=lambda each: each.subscription) + [
        Seen(subscription=name, state="not registered", standing=None, workers=0, free=0, last_error=None)
        for name in missing
    ]


def _state(standing: Standing) -> str:
    free = any(state_of(each) != "worked" for each in standing.partitions)
    if standing.paused:
        return "paused"
    if standing.held is not None and not free:
        return "held"
    if not standing.behind:
        return "up to date"
    return "idle" if free else "working"


def _row(standing: Standing, state: str, error: LastError | None) -> Seen:
    worked = [each for each in standing.partitions if state_of(each) == "worked"]
    return Seen(
        subscription=standing.subscription,
        state=state,
        standing=standing,
        workers=len({each.owner for each in worked}),
        free=len(standing.partitions) - len(worked),
        last_error=error,
    )
