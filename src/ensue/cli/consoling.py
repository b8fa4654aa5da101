"""The command that serves the web console."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ensue.cli.options import TargetArgument
from ensue.cli.output import note
from ensue.cli.target import TargetError, find_log


def add_to(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command(short_help="Serve the web console.")(console)


def console(
    target: TargetArgument = None,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8470,
    tokens: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            envvar="ENSUE_CONSOLE_TOKENS",
            show_default=False,
            help="Who may come in: a line for each, name, role, secret [no-payloads].",
        ),
    ] = None,
    also: Annotated[
        list[str] | None,
        typer.Option(
            "--also", metavar="MODULE:NAME", help="Another application whose log is looked at for causes and effects."
        ),
    ] = None,
) -> None:
    """Serve the web console until SIGTERM or Ctrl-C: what operators see and do, in a browser, and as JSON under /api.

    Without --tokens it is open to this machine only, with every right, at 127.0.0.1. With it, people sign in, and
    programs send Authorization: Bearer SECRET. Roles: see looks; operate also retries, pauses and replays; administer
    also does what cannot be taken back.
    """
    try:
        from ensue.console import Console, Tokens
        from ensue.console.serving import check, serve
    except ImportError as error:
        raise TargetError(f"the console needs more packages ({error.name}): pip install 'ensue[console]'") from error
    found = find_log(target)
    access = None if tokens is None else Tokens.read(tokens)
    made = Console(found.app, access=access, also=[find_log(each).app for each in also or ()])
    check(made, host)
    serve(made, host, port, listening=lambda url: note(f"{found.app.name}: the console is at {url}"))
