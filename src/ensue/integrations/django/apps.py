"""ensue as an app of Django's."""

from __future__ import annotations

from django.apps import AppConfig
from django.core import checks


class EnsueConfig(AppConfig):
    """Brings `manage.py ensue` and the checks; it has no models: the log's tables are ensue's own."""

    name = "ensue.integrations.django"
    label = "ensue"
    verbose_name = "ensue"

    def ready(self) -> None:
        """Register the checks."""
        from ensue.integrations.django.checks import check_app, check_log

        checks.register(check_app)
        checks.register(check_log, checks.Tags.database)
