"""Searching the log backwards: the latest events first, by what is indexed, and by text, which is not."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import msgspec

from ensue.events import Recorded
from ensue.log import Log, Selection, Steps

_STRIDE = 5_000
"""Positions that are looked through for text at once, to begin with."""
_LONGEST = 500_000
_AT_ONCE = 0.1
"""Seconds that one stride may take before the next is shorter."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What a search has found so far."""

    events: list[Recorded[Any]]
    """The latest first."""
    down_to: int
    """Everything above this position has been looked through; 0: all of the log."""


def search(log: Log, selection: Selection, limit: int, seconds: float) -> Steps[Found]:
    """Return the latest events of a selection, up to where the log is complete.

    A text is in no index: the log is looked through backwards in strides, until there are enough or the time is up.
    """
    horizon = yield from log.horizon()
    until = horizon if selection.until is None else min(selection.until, horizon)
    if selection.contains is None:
        rows = yield from log.latest(replace(selection, until=until), limit)
        return Found(events=rows, down_to=rows[-1].position - 1 if len(rows) == limit else selection.after)
    found: list[Recorded[Any]] = []
    stride, began = _STRIDE, time.monotonic()
    while until > selection.after:
        low = max(selection.after, until - stride)
        asked = time.monotonic()
        rows = yield from log.latest(replace(selection, after=low, until=until), limit - len(found))
        found += rows
        if len(found) >= limit:
            return Found(events=found, down_to=found[-1].position - 1)
        until, now = low, time.monotonic()
        if now - began > seconds:
            break
        stride = min(_LONGEST, stride * 2) if now - asked < _AT_ONCE else max(_STRIDE, stride // 2)
    return Found(events=found, down_to=until)
