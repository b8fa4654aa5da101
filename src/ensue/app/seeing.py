"""How every subscription is, those that are only declared and those that are declared no more among them."""

from __future__ import annotations

import msgspec

from ensue.app.app import App
from ensue.subscriptions.inspecting import LastError
from ensue.subscriptions.operating import ALL, Standing


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
    operations = app.operations
    standings = operations.standings(most)
    errors = operations.last_errors()
    known = {each.subscription for each in standings}
    rows = [
        _row(each, app.declarations.declares(each.subscription), errors.get(each.subscription)) for each in standings
    ]
    missing = [
        Seen(subscription=name, state="not registered", standing=None, workers=0, free=0, last_error=None)
        for name in app.declarations.missing(known)
    ]
    return rows + missing


def _row(standing: Standing, declared: bool, error: LastError | None) -> Seen:
    owners = {each.owner for each in standing.partitions if each.owner is not None and not each.expired}
    free = sum(each.owner is None or each.expired for each in standing.partitions)
    if not declared:
        state = "vanished"
    elif standing.paused:
        state = "paused"
    elif standing.held is not None and not free:
        state = "held"
    elif not standing.behind:
        state = "up to date"
    elif free:
        state = "idle"
    else:
        state = "working"
    return Seen(
        subscription=standing.subscription,
        state=state,
        standing=standing,
        workers=len(owners),
        free=free,
        last_error=error,
    )
