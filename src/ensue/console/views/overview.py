"""The overview: how the application is, in one sentence and a few numbers, live."""

from __future__ import annotations

from typing import Any

import msgspec

from ensue.app.judging import COUNTED
from ensue.console.health import health_of
from ensue.console.pulse import Beat, Point, time_left
from ensue.console.visits import Page, Visit


def overview(visit: Visit) -> Page:
    """Show how the application is."""
    beat = visit.pulse.beat()
    points = [_point(each) for each in visit.pulse.points]
    return Page(
        "overview.html", {"title": "Overview", "points": msgspec.json.encode(points).decode(), **live(visit, beat)}
    )


def live(visit: Visit, beat: Beat) -> dict[str, Any]:
    """Return what changes by itself."""
    point = None
    if beat.recorded is not None and beat.handled is not None:
        point = msgspec.json.encode(_point(Point(beat.at.timestamp(), beat.recorded, beat.handled))).decode()
    return {
        "beat": beat,
        "health": health_of(visit.app, beat, payloads=visit.visitor.payloads),
        "point": point,
        "counted": COUNTED,
        "rows": [(each, beat.rates.get(each.subscription), left(each, beat)) for each in beat.facts.seen],
        "jobs": visit.jobs.all()[:5],
    }


def left(seen: Any, beat: Beat) -> float | None:
    """Return in how many seconds a subscription will have caught up; None: not at its rate."""
    return time_left(seen, beat.rates.get(seen.subscription), beat.head)


def _point(point: Point) -> tuple[float, float, float]:
    return round(point.at, 1), round(point.recorded, 2), round(point.handled, 2)
