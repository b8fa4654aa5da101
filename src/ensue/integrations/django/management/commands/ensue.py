"""`manage.py ensue …`: every command of `ensue`, about the application that the settings name."""

from __future__ import annotations

import os
from argparse import REMAINDER
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from ensue.integrations.django.settings import NAMED


class Command(BaseCommand):
    """Hands its arguments on, options and all."""

    help = "Run and operate the ensue application that ENSUE_APP names: manage.py ensue run, migrate, lag, dead list, …"
    requires_system_checks = ()

    def run_from_argv(self, argv: list[str]) -> None:
        """Take the arguments as they are; Django would take its own options out."""
        self._run(argv[2:])

    def add_arguments(self, parser: CommandParser) -> None:
        """Take all arguments, for `call_command`."""
        parser.add_argument("arguments", nargs=REMAINDER)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run one command; raise `CommandError` if it fails."""
        arguments = [*map(str, args), *options.get("arguments", ())]
        try:
            self._run(arguments)
        except SystemExit as leaving:
            if leaving.code:
                code = leaving.code if isinstance(leaving.code, int) else 1
                raise CommandError(f"ensue {' '.join(arguments)} failed", returncode=code) from None

    def _run(self, arguments: list[str]) -> None:
        from ensue.cli import main

        if named := getattr(settings, NAMED, None):
            os.environ.setdefault("ENSUE_APP", named)
        main(arguments)
