"""Who works."""

from __future__ import annotations

from ensue.app.operations import Operations

_HEARD_WITHIN = 15.0
"""Seconds. A worker says that it lives three times per lease; a longer lease counts by itself."""


def alive(operations: Operations) -> list[str]:
    """Return the workers that hold a lease or have been heard of lately."""
    holding = {
        each.owner
        for standing in operations.standings()
        for each in standing.partitions
        if each.owner is not None and not each.expired
    }
    return sorted(holding | {each.id for each in operations.workers() if each.seconds < _HEARD_WITHIN})
