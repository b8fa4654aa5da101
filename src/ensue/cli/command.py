"""All commands together, and what becomes of an error."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ensue.cli import (
    asking,
    consoling,
    contracts,
    dead,
    diffing,
    doctor,
    events,
    forgetting,
    keys,
    lake,
    looking,
    mapping,
    process,
    pruning,
    replaying,
    sealing,
    steering,
    tailing,
    tracing,
    working,
)
from ensue.cli.output import complain, is_database_error
from ensue.cli.versions import versions
from ensue.errors import EnsueError

_UsageError: Any = typer.BadParameter.__bases__[0]  # click's, or that of the click which Typer carries


class _Commands(TyperGroup):
    """Says how an application is named, if it was given to a command that takes it as an option."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except _UsageError as error:
            named = re.search(r"unexpected extra argument.*?([\w.]+:[\w.]+)", error.message)
            if named is not None:
                error.message += f": name the application with --app {named[1]}"
            raise


cli = typer.Typer(
    name="ensue",
    cls=_Commands,
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help reads the same everywhere
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
_debugging = False


@cli.callback(invoke_without_command=True)
def root(
    debug: Annotated[
        bool, typer.Option("--debug", envvar="ENSUE_DEBUG", help="Show the traceback of an error.")
    ] = False,
    version: Annotated[bool, typer.Option("--version", help="Show the version and stop.")] = False,
) -> None:
    """Run and operate an ensue application: its worker, its event log, its subscriptions.

    TARGET and --app name the application, as module:name; the current folder is importable. Without them ENSUE_APP
    counts, then app in [tool.ensue] of the nearest pyproject.toml.
    """
    global _debugging
    _debugging = debug
    if version:
        print(versions()["ensue"])
        raise typer.Exit


for room in (
    working,
    tailing,
    looking,
    tracing,
    diffing,
    asking,
    mapping,
    replaying,
    steering,
    pruning,
    sealing,
    forgetting,
    doctor,
    consoling,
):
    room.add_to(cli)
cli.add_typer(contracts.contracts, name="contracts", short_help="Keep the contracts with other services.")
cli.add_typer(events.events, name="events", short_help="Look at stored events.")
cli.add_typer(dead.dead, name="dead", short_help="Look at what has failed, and decide about it.")
cli.add_typer(keys.keys, name="keys", short_help="Make and rotate the master key of personal data.")
cli.add_typer(lake.lake, name="lake", short_help="Gather events in open table formats, and use them.")
cli.add_typer(process.process, name="process", short_help="Look at processes, and cancel them.")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and leave: 0 if all is well, 1 if not, 2 if the command was not understood."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a character is no reason to fail
    try:
        cli(None if arguments is None else list(arguments), prog_name="ensue")
    except Exception as error:
        if _debugging or os.environ.get("ENSUE_DEBUG"):
            raise
        if isinstance(error, EnsueError):
            complain(str(error))
        elif is_database_error(error):
            complain(f"the database says: {str(error).strip()}")
        else:
            raise
        sys.exit(1)
