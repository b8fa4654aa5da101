"""The commands that write documents about contracts: asyncapi, avro, catalogue, import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ensue.cli.options import AppOption, TargetArgument
from ensue.cli.output import note
from ensue.cli.target import TargetError, find
from ensue.contracts.asyncapi import asyncapi as asyncapi_of
from ensue.contracts.avro import avro_of
from ensue.contracts.catalogue import catalogue as catalogue_of
from ensue.contracts.folder import MANIFEST, file_name, find_folders, read_contract
from ensue.contracts.importing import module_source
from ensue.contracts.locking import current_contracts
from ensue.contracts.schemas import as_text
from ensue.errors import UnknownName

OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to. Default: the standard output.")
]


def add_to(cli: typer.Typer) -> None:
    """Add the commands."""
    cli.command(short_help="Describe the service as an AsyncAPI document.")(asyncapi)
    cli.command(short_help="Write events as Avro schemas.")(avro)
    cli.command(short_help="Write an HTML page about several services.")(catalogue)
    cli.command("import", short_help="Make event classes from contract files.")(import_)


def asyncapi(
    target: TargetArgument = None,
    output: OutputOption = None,
    document_version: Annotated[
        str, typer.Option("--document-version", metavar="VERSION", help="The version of the document.")
    ] = "1.0.0",
) -> None:
    """Describe what the application publishes and reads as an AsyncAPI 3.0 document, in JSON."""
    found = find(target)
    _write(as_text(asyncapi_of(found.app.service(), document_version)), output)


def avro(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[EVENT]", show_default=False, help="One event, with or without its version."),
    ] = None,
    app: AppOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Write a file EVENT.vN.avsc for each into it.")
    ] = None,
    decimal: Annotated[
        str | None,
        typer.Option(metavar="PRECISION,SCALE", show_default=False, help="Write decimals as such. Default: as text."),
    ] = None,
) -> None:
    """Write the events that the application publishes as Avro schemas, to the standard output as one JSON array."""
    found = find(app)
    contracts = [
        each
        for each in current_contracts(found.app.service()).values()
        if name is None or name in (each.name, each.type)
    ]
    if name is not None and not contracts:
        raise UnknownName(f"{found.app.name!r} publishes no event {name!r}")
    schemas = [avro_of(each, decimal=_decimal(decimal)) for each in contracts]
    if output is None:
        print(as_text(schemas), end="")
        return
    for contract, schema in zip(contracts, schemas, strict=True):
        _write(as_text(schema), output / Path(file_name(contract)).with_suffix(".avsc"))


def catalogue(
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER...", help="Contract folders of services, or folders above them.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="The page is its index.html.")],
    title: Annotated[str, typer.Option(metavar="TEXT", help="What stands on top.")] = "Events between services",
) -> None:
    """Write an HTML page about several services: what each publishes and reads, and how it flows.

    It needs nothing else: no network, no other file.
    """
    _write(catalogue_of(find_folders(folders), title), output / "index.html")


def import_(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Contract files of another service, or its contract folder.")
    ],
    output: OutputOption = None,
    past: Annotated[
        bool, typer.Option("--past", help="Make older versions of an event past structures, for @upcast.")
    ] = False,
) -> None:
    """Make the source of event classes from contract files, for a service that shares no code with the publisher."""
    paths = [path for each in files for path in _contract_files(each)]
    contracts = {each.type: each for each in map(read_contract, paths)}
    _write(module_source(list(contracts.values()), past=past), output)


def _contract_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = [each for each in sorted(path.glob("*.json")) if each.name != MANIFEST]
    if not found:
        raise TargetError(f"{path} holds no contract file: `ensue contracts lock` writes them")
    return found


def _decimal(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    precision, comma, scale = text.partition(",")
    if not (comma and precision.strip().isdecimal() and scale.strip().isdecimal()) or int(scale) > int(precision):
        raise typer.BadParameter(f"--decimal {text!r}: write the precision and the scale, for example 18,4")
    return int(precision), int(scale)


def _write(text: str, output: Path | None) -> None:
    if output is None:
        print(text, end="")
        return
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise TargetError(f"{output} cannot be written: {error.strerror}") from error
    note(f"wrote {output}")
