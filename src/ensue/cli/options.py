"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

TargetArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="TARGET",
        envvar="ENSUE_APP",
        show_default=False,
        help="The application, as module:name. Default: app in [tool.ensue] of pyproject.toml.",
    ),
]
AppOption = Annotated[
    str | None,
    typer.Option(
        "--app",
        "-A",
        metavar="MODULE:NAME",
        envvar="ENSUE_APP",
        show_default=False,
        help="The application. Default: app in [tool.ensue] of pyproject.toml.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
ActorOption = Annotated[
    str | None,
    typer.Option("--actor", metavar="NAME", envvar="ENSUE_ACTOR", help="Who does it, for the audit. Default: you."),
]
ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the audit.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do it without being asked.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only show what it would do.")]
FolderOption = Annotated[
    Path | None,
    typer.Option(
        "--folder", metavar="DIR", show_default=False, help="The contract files. Default: the App's, else contracts/."
    ),
]
