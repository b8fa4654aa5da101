"""How much flows between two looks at the log: what was recorded, and what subscriptions have passed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ensue.log import Log, Steps

_json = msgspec.json.Encoder().encode
_MOST = 50_000
"""Events that are counted of a type at most; positions that are looked at for what was recorded."""


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """What has flowed since an earlier look."""

    recorded: dict[str, int]
    """Events by type."""
    passed: dict[tuple[str, str], int]
    """Events by subscription and type."""


def flow(log: Log, since: int, head: int, checkpoints: Mapping[str, tuple[tuple[str, ...], int, int]]) -> Steps[Flow]:
    """Return what was recorded between two positions, and what each subscription has passed.

    `checkpoints` says for each subscription its types and where it stood then and now. It costs as much as what has
    flowed; where that is very much, a part of it is counted.
    """
    sql = log.dialect.sql
    first = max(since, head - _MOST)
    share = (head - since) / (head - first) if head > first else 1.0
    recorded = yield sql["recorded_between"](after=first, until=head)
    asked: list[tuple[str, str, int, int]] = [
        (name, type, then, now) for name, (types, then, now) in checkpoints.items() if now > then for type in types
    ]
    passed: Any = (yield sql["passed"](rows=_json(asked).decode(), most=_MOST)) if asked else []
    return Flow(
        recorded={type: round(count * share) for type, count in recorded},
        passed={(name, type): count for name, type, count in passed},
    )
