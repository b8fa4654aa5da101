"""Long actions, and how far they are."""

from __future__ import annotations

from datetime import UTC, datetime

from ensue.console.visits import Page, Visit


def job(visit: Visit) -> Page:
    """Show one; htmx asks again and again for the part that moves."""
    found = visit.jobs.get(visit.numbered("number"))
    took = ((found.ended or datetime.now(UTC)) - found.began).total_seconds()
    left = took * (found.total - found.done) / found.done if found.done and found.state == "working" else None
    values = {"title": found.what, "job": found, "took": took, "left": left}
    return Page("job_part.html" if visit.partial else "job.html", values)
