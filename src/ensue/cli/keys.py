"""The commands about master keys: make, list, rotate."""

from __future__ import annotations

import typer

from ensue.cli.forgetting import NOT_SWEPT
from ensue.cli.options import AppOption, DryRunOption, JsonOption
from ensue.cli.output import BAD, GOOD, Cell, count, note, print_json, progress, put, say, styled, table
from ensue.cli.target import find_log
from ensue.keys import make_master_key

keys = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@keys.callback()
def about() -> None:
    """Make and rotate the master key that wraps the keys of persons."""


@keys.command(short_help="Print a new master key.")
def make() -> None:
    """Print a new master key, for ENSUE_MASTER_KEY. It is kept nowhere: put it where your secrets are."""
    print(make_master_key())


@keys.command("list", short_help="Show which master keys are in use.")
def list_keys(app: AppOption = None, json: JsonOption = False) -> None:
    """Show by name which master keys have wrapped the keys of persons, and how many each."""
    found = find_log(app).app.keys.masters()
    if json:
        print_json(found)
    elif not found:
        say("there are no keys")
    else:
        rows: list[list[Cell]] = [
            [each.master, each.keys, styled("yes", GOOD) if each.current else "no"] for each in found
        ]
        put(table(["master key", ">keys of persons", "wraps new ones"], rows))


@keys.command(short_help="Wrap all keys of persons with the current master key.")
def rotate(app: AppOption = None, dry_run: DryRunOption = False, json: JsonOption = False) -> None:
    """Wrap every key of a person with the current master key: the first of ENSUE_MASTER_KEY, or your key service's.

    The old master key must be there too until it is done. Events are not touched. It goes in small transactions, and
    may be broken off with Ctrl-C: it goes on where it was.
    """
    rotation = find_log(app).app.keys
    if dry_run:
        left = [each for each in rotation.masters() if not each.current]
        keys = sum(each.keys for each in left)
        if json:
            print_json({"keys": keys})
        else:
            say(f"would wrap {count(keys, 'key')} anew; nothing was done")
        return
    with progress("Wrapping keys") as step:
        try:
            done = rotation.rotate(progress=step)
        except KeyboardInterrupt:
            note("Broken off. What has been wrapped anew stays so; begin again when you like.")
            raise
    if json:
        print_json(done)
        return
    say(f"{count(done.keys, 'key')} wrapped anew; master key {done.master} has wrapped all of them")
    if not done.swept:
        say(NOT_SWEPT, BAD)
