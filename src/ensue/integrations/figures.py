"""Figures that are asked of the log when somebody looks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from ensue.app import App
from ensue.app.seeing import standings_of, state_of
from ensue.integrations.instruments import (
    AGE,
    CHECKPOINT,
    HELD,
    HORIZON,
    HORIZON_AGE,
    LAG,
    PARTITIONS,
    PAUSED,
    WAITS,
    WORKERS,
    Instrument,
)
from ensue.subscriptions.standings import Standing

_HEARD_OF = 60.0


_COUNTED = 1_000_000


class Figure(NamedTuple):
    """One value of a gauge."""

    instrument: Instrument
    value: float
    labels: tuple[str, ...] = ()


def figures(app: App) -> Iterator[Figure]:
    """Ask the log of an application how it stands; raises what the database raises.

    A handful of queries on a connection of ensue's own. What is counted, the lag, takes an index scan of what is
    behind, up to a million events of a type: whoever is far behind is not kept behind by who watches.
    """
    operations = app.operations
    yield Figure(HORIZON, operations.horizon())
    yield Figure(HORIZON_AGE, max((each.seconds for each in operations.holders()), default=0.0))
    yield Figure(WORKERS, sum(each.seconds < _HEARD_OF for each in operations.workers()))
    for standing in standings_of(app, _COUNTED).found:
        yield from _of(standing)


def _of(standing: Standing) -> Iterator[Figure]:
    name = standing.subscription
    yield Figure(LAG, standing.behind, (name,))
    yield Figure(AGE, standing.seconds_behind, (name,))
    yield Figure(CHECKPOINT, standing.checkpoint, (name,))
    yield Figure(WAITS, standing.retrying, (name, "retry"))
    yield Figure(WAITS, standing.dead, (name, "person"))
    yield Figure(PAUSED, standing.paused, (name,))
    held = standing.held
    yield Figure(HELD, 0.0 if held is None else (datetime.now(UTC) - held.since).total_seconds(), (name,))
    states = Counter(state_of(each) for each in standing.partitions)
    for state in ("worked", "expired", "free"):
        yield Figure(PARTITIONS, states[state], (name, state))
