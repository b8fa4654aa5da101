"""The audit: every action, by whom, when and why."""

from __future__ import annotations

from ensue.console.visits import Page, Visit
from ensue.subscriptions.operating import ALL

_ROWS = 100


def audit(visit: Visit) -> Page:
    """Show what operators did, the latest first."""
    found = visit.app.operations.audit(
        _ROWS + 1,
        subscription=visit.asked("subscription") or None,
        key=visit.asked("key") or None,
        before=visit.number("before") or ALL,
    )
    shown = found[:_ROWS]
    more = shown[-1].number if len(found) > _ROWS else None
    return Page("audit.html", {"title": "Audit", "entries": shown, "more": more})
