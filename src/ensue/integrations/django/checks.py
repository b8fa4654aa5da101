"""What `manage.py check` says about ensue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as Caution
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from ensue.app import App
from ensue.errors import EnsueError, WrongDatabase
from ensue.integrations.django.settings import the_app, url_of
from ensue.log import Place


def check_app(**_: Any) -> list[CheckMessage]:
    """Check that the application is named, that what it declares holds together, and that Django reaches its log."""
    try:
        app = the_app()
        app.check()
    except (ImproperlyConfigured, EnsueError) as error:
        return [Error(str(error), id="ensue.E001")]
    if not any(_leads_to(alias, app) for alias in connections):
        return [
            Caution(
                f"the log of {app.name} is in none of DATABASES: nothing can be recorded in a transaction of Django's",
                hint='App("…", url_of("default")) puts it into the database default',
                id="ensue.W001",
            )
        ]
    return []


def _leads_to(alias: str, app: App) -> bool:
    try:
        place = Place(app.name, url_of(alias), app.log.place.schema)
        app.log.place.confirm(place.database)
    except (ImproperlyConfigured, WrongDatabase):
        return False
    return type(place.dialect) is type(app.log.dialect)


def check_log(*, databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Check, with `--database`, that the log has been migrated."""
    if not databases:
        return []
    try:
        pending = the_app().operations.pending_migrations()
    except (ImproperlyConfigured, EnsueError) as error:
        return [Error(str(error), id="ensue.E002")]
    if not pending:
        return []
    return [
        Caution(f"the log lacks the migrations {', '.join(pending)}", hint="manage.py ensue migrate", id="ensue.W002")
    ]
