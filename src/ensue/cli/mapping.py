"""The command that draws a service: map."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from ensue.app.mapping import Map, mermaid, svg
from ensue.cli.options import TargetArgument
from ensue.cli.output import note
from ensue.cli.target import TargetError, find


class MapFormat(StrEnum):
    """How a map is written down."""

    MERMAID = "mermaid"
    SVG = "svg"
    JSON = "json"


def add_to(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command(short_help="Draw who emits and who handles which event.")(map)


FormatOption = Annotated[MapFormat, typer.Option(help="How to write it down.")]
OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to. Default: the standard output.")
]


def map(
    target: TargetArgument = None,
    format: FormatOption = MapFormat.MERMAID,
    output: OutputOption = None,
) -> None:
    """Draw a map of the application: who emits and who handles which event, module by module.

    It is drawn from the declarations, and needs no database.
    """
    found = find(target)
    drawn = found.app.map()
    if not drawn.parts and not drawn.events:
        raise TargetError(
            f"{found.spec} declares nothing, so there is nothing to draw: import the modules that hold the handlers "
            "and repositories where the App is made, or name the module that imports them"
        )
    write_down(drawn, format, output)


def write_down(drawn: Map, format: MapFormat, output: Path | None) -> None:
    """Write a drawing to a file, or to the standard output."""
    text = _text(drawn, format)
    if output is None:
        print(text, end="")
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise TargetError(f"the drawing cannot be written to {output}: {error.strerror}") from error
    note(f"wrote {output}")


def _text(drawn: Map, format: MapFormat) -> str:
    match format:
        case MapFormat.MERMAID:
            return mermaid(drawn)
        case MapFormat.SVG:
            return svg(drawn)
        case MapFormat.JSON:
            return msgspec.json.format(msgspec.json.encode(drawn), indent=2).decode() + "\n"
