"""Views: each takes a visit, asks the application, and returns what its template shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ensue.console.access import Role
from ensue.console.views import (
    aggregates,
    audit,
    contracts,
    dead,
    editing,
    events,
    finding,
    jobs,
    mapping,
    overview,
    processes,
    subscriptions,
)
from ensue.console.visits import Answer, Visit

VIEWS: Mapping[str, tuple[Callable[[Visit], Answer], Role]] = {
    "/": (overview.overview, "see"),
    "/find": (finding.find, "see"),
    "/events": (events.search, "see"),
    "/events/{id}": (events.event, "see"),
    "/subscriptions": (subscriptions.all, "see"),
    "/subscriptions/{name}": (subscriptions.one, "see"),
    "/dead": (dead.groups, "see"),
    "/dead/list": (dead.letters, "see"),
    "/dead/decide": (dead.deciding, "operate"),
    "/dead/{position}": (dead.letter, "see"),
    "/dead/{position}/edit": (editing.edit, "operate"),
    "/aggregates": (aggregates.all, "see"),
    "/aggregates/{stream}": (aggregates.timeline, "see"),
    "/aggregates/{stream}/diff": (aggregates.difference, "see"),
    "/processes": (processes.all, "see"),
    "/processes/{process}/{key}": (processes.one, "see"),
    "/map": (mapping.map, "see"),
    "/contracts": (contracts.all, "see"),
    "/contracts/{name}": (contracts.one, "see"),
    "/asyncapi.json": (contracts.asyncapi, "see"),
    "/audit": (audit.audit, "see"),
    "/jobs/{number}": (jobs.job, "see"),
}
"""By path: the view, and the role it needs."""
