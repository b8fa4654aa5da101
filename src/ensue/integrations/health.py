"""Whether the worker of this process lives, and whether the subscriptions of an application keep up."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import msgspec

from ensue.app import App
from ensue.app.judging import COUNTED, Problem, facts_of, judge
from ensue.app.telling import count, span
from ensue.subscriptions import Worker, seconds
from ensue.subscriptions.standings import Standing

_SILENT = 10.0
"""Seconds after which a worker that has not looked for events is dead: it looks every two seconds at least."""


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """What was found."""

    well: bool
    problems: tuple[str, ...]
    """What is wrong, in a sentence each."""
    facts: dict[str, Any]
    """What it was judged by, as JSON may hold it."""


class Pulse:
    """Tells whether the worker of this process lives: its event loop turns, it reads, and its leases are fresh.

    Whoever asks is not in need of the database.
    """

    def __init__(self, patience: float | timedelta | str = 5.0) -> None:
        """Take how many seconds the event loop may take to answer."""
        self._patience = seconds(patience)
        self._worker: Worker | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def watch(self, worker: Worker) -> None:
        """Watch this worker from now on; call it in the worker's event loop."""
        self._worker, self._loop = worker, asyncio.get_running_loop()

    def feel(self) -> Health:
        """Look. Waits for the event loop, so call it in another thread."""
        worker, loop = self._worker, self._loop
        if worker is None or loop is None:
            return Health(well=False, problems=("no worker has started yet",), facts={})
        turns = self._turns(loop)
        facts = {"worker": worker.id}
        problems = tuple(self._problems(worker, turns=turns))
        return Health(well=not problems, problems=problems, facts=facts)

    def _turns(self, loop: asyncio.AbstractEventLoop) -> bool:
        turned = threading.Event()
        try:
            loop.call_soon_threadsafe(turned.set)
        except RuntimeError:  # it is closed
            return False
        return turned.wait(self._patience)

    def _problems(self, worker: Worker, *, turns: bool) -> Iterator[str]:
        now = time.monotonic()
        if not worker.working:
            yield "the worker has ended"
        elif not turns:
            yield f"the worker's event loop has not turned for {self._patience:g} s: a handler blocks it"
        elif now > worker.leased_until:
            yield f"its leases ran out {now - worker.leased_until:.1f} s ago, and it could not renew them"
        elif now > worker.read_at + _SILENT:
            yield f"it has not looked for events for {now - worker.read_at:.0f} s"


def keeping_up(app: App, within: float | timedelta | str = 60.0) -> Health:
    """Compare the checkpoints of an application's subscriptions with the true head of its log.

    It judges as `ensue doctor` and the console do; what is wrong with a single event, dead letters and what is tried
    again, makes nobody unready, and what somebody has paused may lag. Beside that something is wrong if a subscription
    has not passed an event that was recorded more than `within` seconds ago, or if a partition has no living worker
    though nothing waits. It asks the database, by whichever process: a dead worker cannot look healthy. Builds of
    projections on which this code does not work count for nothing. Raises what the database raises.
    """
    limit = seconds(within)
    horizon = app.operations.horizon()
    facts = facts_of(app, COUNTED)
    problems = [
        *(each.what for each in judge(app, facts, patience=limit, most=COUNTED) if _is_unready(each)),
        *(problem for each in facts.ours for problem in _lagging(each, limit)),
    ]
    return Health(
        well=not problems,
        problems=tuple(problems),
        facts={"horizon": horizon, "subscriptions": {each.subscription: _facts(each) for each in facts.ours}},
    )


def _is_unready(problem: Problem) -> bool:
    return problem.check == "leases" or (problem.level == "wrong" and problem.check not in ("held", "dead letters"))


def _lagging(standing: Standing, limit: float) -> Iterator[str]:
    if standing.seconds_behind > limit and not standing.paused:
        held = f", held: {standing.held.reason}" if standing.held is not None else ""
        more = "more than " if standing.behind >= COUNTED else ""
        behind = f"{more}{count(standing.behind, 'event')} and {span(standing.seconds_behind)} behind"
        yield f"{standing.subscription} is {behind}{held}"


def _facts(standing: Standing) -> dict[str, Any]:
    return {
        "checkpoint": standing.checkpoint,
        "behind": standing.behind,
        "seconds_behind": round(standing.seconds_behind, 3),
        "retrying": standing.retrying,
        "dead": standing.dead,
        "paused": standing.paused,
        "held": None if standing.held is None else standing.held.reason,
        "workers": sorted({each.owner for each in standing.partitions if each.owner is not None}),
    }
