"""Changing JSON by hand: in an editor, or from the command line; and showing what has changed."""

from __future__ import annotations

import difflib
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import typer

from ensue.cli.output import BAD, DIM, GOOD, Refused, note, pretty
from ensue.errors import EnsueError


class NotJson(EnsueError):
    """The text is no JSON."""


def compact(text: str) -> str:
    """Return JSON without spaces, its numbers to the letter; raise `NotJson` if it is none."""
    try:
        return msgspec.json.format(text, indent=-1)
    except msgspec.DecodeError as error:
        raise NotJson(f"this is no JSON: {error}") from error


def given(option: str) -> str:
    """Return the JSON that an option holds or names: `@file`, `-` for the standard input."""
    if option == "-":
        return compact(sys.stdin.read())
    if option.startswith("@"):
        try:
            return compact(Path(option[1:]).read_text("utf-8"))
        except OSError as error:
            raise NotJson(f"{option[1:]} cannot be read: {error.strerror}") from error
    return compact(option)


def by_hand(text: str, *, name: str) -> str:
    """Let a person change JSON in an editor, again while it is none; return it compact."""
    if not sys.stdin.isatty():
        raise Refused("Nobody can edit here (no terminal): give the new contents with --data. Nothing was done")
    editor = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi")
    with tempfile.TemporaryDirectory(prefix="ensue-") as folder:
        file = Path(folder) / f"{name}.json"
        file.write_text(text + "\n", "utf-8")
        while True:
            try:
                code = subprocess.run([*editor, str(file)], check=False).returncode  # noqa: S603
            except OSError as error:
                raise Refused(f"the editor {editor[0]} cannot be started: {error.strerror}; set EDITOR") from error
            if code != 0:
                raise Refused(f"the editor {editor[0]} ended with {code}; nothing was done")
            try:
                return compact(file.read_text("utf-8"))
            except NotJson as error:
                note(str(error))
                if not typer.confirm("Edit it again?", default=True, err=True):
                    raise


def difference(old: str, new: str) -> Iterator[tuple[str, str]]:
    """Yield the lines that tell two JSON texts apart, each with its style."""
    styles = {"+": GOOD, "-": BAD, "@": DIM}
    lines = difflib.unified_diff(
        pretty(old).splitlines(), pretty(new).splitlines(), "as it is", "as it will be", lineterm=""
    )
    for text in lines:
        yield text, styles.get(text[:1], "")
