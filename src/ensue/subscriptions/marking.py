"""Marks: where checkpoints stood in the past, so that people can be told when an event was handled.

Handling an event writes nothing for it. Instead the checkpoints are looked at every ten seconds, in the transaction in
which leases are renewed anyway.
"""

from __future__ import annotations

import msgspec

from ensue.log import Log, Steps

EVERY = 10.0
"""Seconds between two marks."""
RINGS = msgspec.json.encode([(10, 360), (300, 288), (7200, 360)]).decode()
"""Every ten seconds of an hour, every five minutes of a day, every two hours of a month."""
_DAYS = 30
"""For so long is kept what became of events that had failed."""


def mark(log: Log, worker: str) -> Steps[None]:
    """Mark where the partitions of a worker stand, in the open transaction, and forget what is a month old."""
    yield log.dialect.sql["mark"](worker=worker, rings=RINGS)
    yield log.dialect.sql["forget_settled"](days=_DAYS)
