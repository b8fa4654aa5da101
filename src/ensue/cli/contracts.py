"""The commands about contracts with other services: lock, check, show, readers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from ensue.cli import documents
from ensue.cli.options import AppOption, DryRunOption, FolderOption, JsonOption, TargetArgument
from ensue.cli.output import BAD, DIM, GOOD, NAME, WARN, complain, count, print_json, put, say, styled, table
from ensue.cli.target import find, folder_of
from ensue.contracts.folder import Folder, find_folders
from ensue.contracts.locking import Comparison, by_name, compare, current_contracts, grown, told
from ensue.contracts.locking import lock as lock_into
from ensue.contracts.readers import Readers
from ensue.contracts.readers import readers as find_readers
from ensue.contracts.shapes import MISSING, Contract, words
from ensue.contracts.verdicts import Verdict, verdicts
from ensue.errors import UnknownName

contracts = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
documents.add_to(contracts)


@contracts.callback()
def about() -> None:
    """Keep the contracts with other services: what is published, in which structure."""


@contracts.command(short_help="Write the contract files.")
def lock(
    target: TargetArgument = None, folder: FolderOption = None, dry_run: DryRunOption = False, json: JsonOption = False
) -> None:
    """Write one JSON Schema for each event and version that the application publishes, and its manifest.

    A version that is locked is never overwritten with another structure: then nothing is written, and the exit code is
    1. Commit the files: other services read them.
    """
    found = find(target)
    place = Folder(folder_of(found, folder))
    comparison = compare(found.app.service(), place)
    broken = [each for each in comparison.differences if each.problem == "changed"]
    if not dry_run and not broken:
        lock_into(comparison, place)
    if json:
        writes = [{"file": str(each.path), "why": each.why} for each in comparison.writes]
        print_json({"dry_run": dry_run, "writes": writes, "refused": broken})
    elif broken:
        complain(f"nothing was written: {told(broken, place.path)}")
    else:
        for each in comparison.writes:
            say(f"{'would write' if dry_run else 'wrote'} {each.path}{_why[each.why]}")
        if not comparison.writes:
            say("nothing to do: the contract files are up to date")
    if broken:
        raise typer.Exit(1)


_why = {
    "new": "",
    "manifest": "",
    "words": " (the same structure, in other words)",
    "grown": " (with the members that were added)",
}


@contracts.command(short_help="See whether every contract is kept.")
def check(target: TargetArgument = None, folder: FolderOption = None, json: JsonOption = False) -> None:
    """See whether every event that the application publishes is as its contract file says.

    The exit code is 1 if something differs: run it before you merge. Where there are several versions of an event, it
    also says whether who reads one can read the other.
    """
    found = find(target)
    place = Folder(folder_of(found, folder))
    comparison = compare(found.app.service(), place)
    if json:
        print_json(
            {
                "kept": not comparison.differences,
                "differences": comparison.differences,
                "grown": [each.path.name for each in grown(comparison)],
                "verdicts": comparison.verdicts,
            }
        )
    else:
        _print_comparison(comparison, place)
    if comparison.differences:
        raise typer.Exit(1)


def _print_comparison(comparison: Comparison, place: Folder) -> None:
    for judged in comparison.verdicts:
        _print_verdict(judged)
    for each in grown(comparison):
        say(
            f"{each.path.name}: members were added, as its contract allows; lock them with `ensue contracts lock`", WARN
        )
    if comparison.differences:
        say(told(comparison.differences, place.path), BAD)
    else:
        say(f"{count(len(place.contracts()), 'contract')} in {place.path}, all kept", GOOD)


@contracts.command(short_help="Show an event and its versions.")
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An event, with or without its version: OrderPlaced.v1.")],
    app: AppOption = None,
    folder: FolderOption = None,
    json: JsonOption = False,
) -> None:
    """Show the members of an event in each of its versions, and whether who reads one can read the other.

    `backward`: who reads the newer version can read the older one; `forward`: who reads the older one can read the
    newer one; `full`: both.
    """
    found = find(app)
    known = {**Folder(folder_of(found, folder)).contracts(), **current_contracts(found.app.service())}
    versions = [each for each in known.values() if name in (each.name, each.type)]
    if not versions:
        names = ", ".join(by_name(known.values())) or "it has none"
        raise UnknownName(f"{found.app.name!r} has no integration event {name!r}: {names}")
    judged = verdicts(versions)
    if json:
        print_json({"versions": [_as_json(each) for each in versions], "verdicts": judged})
        return
    for number, each in enumerate(versions):
        if number:
            _print_verdict(judged[number - 1])
            say()
        _print_contract(each)


def _as_json(contract: Contract) -> dict[str, object]:
    return {
        "event": contract.name,
        "version": contract.version,
        "key": contract.key,
        "changes": contract.changes,
        "members": [
            {
                "name": each.name,
                "type": words(each.shape),
                "required": each.required,
                **({} if each.default is MISSING else {"default": each.default}),
            }
            for each in contract.root.fields
        ],
    }


def _print_contract(contract: Contract) -> None:
    more = [f"key {contract.key}"] if contract.key else []
    more += ["members may be added"] if contract.changes == "additive" else []
    say(Text.assemble((contract.type, NAME), (f"  {', '.join(more)}" if more else "", DIM)))
    if contract.root.about:
        say(contract.root.about, DIM)
    rows = [
        (
            each.name,
            words(each.shape),
            "" if each.required else "optional" if each.default is MISSING else f"{each.default!r} by default",
            each.about or "",
        )
        for each in contract.root.fields
    ]
    put(table(("member", "type", "", "~"), rows))


def _print_verdict(verdict: Verdict) -> None:
    good = verdict.compatibility != "none"
    say(
        Text.assemble(
            f"{verdict.old} to {verdict.new}: ", styled(_verdicts[verdict.compatibility], GOOD if good else WARN)
        )
    )
    for reader, obstacles in (("new", verdict.not_backward), ("old", verdict.not_forward)):
        for each in obstacles:
            say(f"  who reads the {reader} version: {each}", DIM)


_verdicts = {
    "full": "full, each can be read as the other",
    "backward": "backward, the old one can be read as the new one",
    "forward": "forward, the new one can be read as the old one",
    "none": "none, neither can be read as the other",
}


@contracts.command(short_help="See who reads which version.")
def readers(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FOLDER]...", show_default=False, help="Where other services are. Default: here."),
    ] = None,
    app: AppOption = None,
    json: JsonOption = False,
) -> None:
    """See who reads which version of the events that the application publishes, so that an old one may end.

    It looks for the manifests, service.json, that other services keep beside their contracts, in the folders and below
    them.
    """
    found = find(app)
    known = find_readers(found.app.service(), find_folders(folders or [Path()]))
    if json:
        print_json(known)
        return
    if not known:
        say(f"{found.app.name} publishes no integration event, and nobody reads one of it")
        return
    put(table(("event", ">version", "read by", "as", "from"), [row for each in known for row in _rows(each)]))


def _rows(each: Readers) -> list[tuple[str | Text | int, ...]]:
    name: str | Text = each.event if each.published else styled(f"{each.event} (not published)", BAD)
    if not each.readers:
        return [(name, each.version, styled("nobody", DIM), "", "")]
    return [(name, each.version, one.service, one.consumer or "", one.channel or "") for one in each.readers]
