"""Subscriptions: how far each is, how fast, who works on it, and what an operator can do."""

from __future__ import annotations

from ensue.app.builds import BuildStanding
from ensue.app.judging import COUNTED
from ensue.console.views.overview import left, live
from ensue.console.visits import Page, Visit
from ensue.errors import UnknownName


def all(visit: Visit) -> Page:
    """Show all of them."""
    return Page("subscriptions.html", {"title": "Subscriptions", **live(visit, visit.pulse.beat())})


def one(visit: Visit) -> Page:
    """Show one, with its partitions and, of a projection, its builds."""
    name, beat = visit.part("name"), visit.pulse.beat()
    seen = next((each for each in beat.facts.seen if each.subscription == name), None)
    if seen is None:
        raise UnknownName(f"the log has no subscription {name!r}, and the application declares none")
    builds = _builds(visit, name)
    return Page(
        "subscription.html",
        {
            "title": name,
            "seen": seen,
            "beat": beat,
            "rate": beat.rates.get(name),
            "left": left(seen, beat),
            "counted": COUNTED,
            "faults": visit.app.operations.faults(name),
            "builds": builds,
            "decisions": visit.app.operations.audit(10, subscription=name),
            "declared": visit.app.subscriptions.get(name),
            "jobs": [
                each for each in visit.jobs.all() if builds and each.what.split()[1] == builds[0].build.projection
            ],
        },
    )


def _builds(visit: Visit, name: str) -> list[BuildStanding]:
    """Return the builds of the projection whose cursor this is."""
    found = visit.app.replays.builds() if visit.app.declarations.projections else []
    projection = next((each.build.projection for each in found if each.build.cursor == name), None)
    return [each for each in found if each.build.projection == projection]
