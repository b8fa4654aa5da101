"""Locking contracts into files, and telling what is no longer as it was locked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

from ensue.contracts.comparing import Change, changes
from ensue.contracts.folder import MANIFEST, Folder, file_name, manifest_of, manifest_text
from ensue.contracts.schemas import as_text, schema_of
from ensue.contracts.service import Service
from ensue.contracts.shapes import Contract
from ensue.contracts.structures import contract_of
from ensue.contracts.verdicts import Verdict, verdicts
from ensue.errors import ContractBroken, UnusableContract

Problem = Literal["not locked", "changed", "gone", "manifest"]


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is not as its contract file says."""

    type: str
    """The wire type; the service's name for its manifest."""
    problem: Problem
    path: str = ""
    """The member that has changed; empty for the event as a whole."""
    what: str
    mend: str
    """What to do about it."""

    def __str__(self) -> str:
        return f"{self.type}{f', {self.path}' if self.path else ''}: {self.what}"


class Write(msgspec.Struct, frozen=True, kw_only=True):
    """A file that locking writes."""

    path: Path
    text: str
    why: Literal["new", "words", "grown", "manifest"]
    """It is a new contract; only what is said about it has changed; members were added, as its contract allows; or it
    is the manifest."""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What a service is, against its contract files."""

    differences: list[Difference]
    """What is wrong, in the order of the events."""
    writes: list[Write]
    """What locking would write."""
    verdicts: list[Verdict]
    """Of neighbouring versions."""


def compare(service: Service, folder: Folder) -> Comparison:
    """Compare what a service publishes and reads with its contract files.

    Raises `UnusableContract` for files that are none, and for a folder of another service.
    """
    _check_owner(service, folder)
    locked = folder.contracts()
    current = current_contracts(service)
    differences: list[Difference] = []
    writes: list[Write] = []
    for type, contract in current.items():
        if type not in locked:
            differences.append(_not_locked(contract, folder))
            writes.append(_write(contract, folder.path / file_name(contract), "new"))
            continue
        found = changes(locked[type], contract)
        wrong = [each for each in found if contract.changes == "none" or not each.additive]
        differences.extend(_changed(contract, each) for each in wrong)
        write = _write(contract, folder.path_of(contract), "grown" if found else "words")
        if not wrong and write.path.read_text("utf-8") != write.text:
            writes.append(write)
    differences.extend(_gone(each, folder) for type, each in locked.items() if type not in current)
    manifest = Write(path=folder.path / MANIFEST, text=manifest_text(manifest_of(service)), why="manifest")
    if not manifest.path.exists() or manifest.path.read_text("utf-8") != manifest.text:
        writes.append(manifest)
        if manifest.path.exists() or (not differences and (service.publishes or service.reads)):
            differences.append(_outdated(service, manifest.path))
    judged = [each for group in by_name({**locked, **current}.values()).values() for each in verdicts(group)]
    return Comparison(differences=differences, writes=writes, verdicts=judged)


def current_contracts(service: Service) -> dict[str, Contract]:
    """Return the contracts of what a service publishes, by wire type, in the order of name and version."""
    events = dict.fromkeys(each.event for each in service.publishes)
    contracts = sorted((contract_of(each, service.name) for each in events), key=lambda each: (each.name, each.version))
    return {each.type: each for each in contracts}


def by_name(contracts: Iterable[Contract]) -> dict[str, list[Contract]]:
    """Group contracts by event, the versions in order."""
    groups: dict[str, list[Contract]] = {}
    for each in sorted(contracts, key=lambda each: (each.name, each.version)):
        groups.setdefault(each.name, []).append(each)
    return groups


def check_contracts(service: Service, path: Path) -> None:
    """Raise `ContractBroken`, with all that differs, if an event is not as its contract file says or has none.

    The manifest does not count: it is for other services to look at.
    """
    found = [each for each in compare(service, Folder(path)).differences if each.problem != "manifest"]
    if found:
        raise ContractBroken(told(found, path), tuple(map(str, found)))


def lock(comparison: Comparison, folder: Folder) -> None:
    """Write what locking writes; raise `ContractBroken`, and write nothing, if a locked version has changed."""
    changed = [each for each in comparison.differences if each.problem == "changed"]
    if changed:
        raise ContractBroken(told(changed, folder.path), tuple(map(str, changed)))
    for write in comparison.writes:
        write.path.parent.mkdir(parents=True, exist_ok=True)
        write.path.write_text(write.text, encoding="utf-8")


def told(differences: list[Difference], path: Path) -> str:
    """Say what differs, and for each kind of it what to do."""
    lines = [f"the contracts in {path} are not kept:", *(f"  - {each}" for each in differences)]
    lines += dict.fromkeys(each.mend for each in differences)
    return "\n".join(lines)


# --- pieces


def _check_owner(service: Service, folder: Folder) -> None:
    found = folder.manifest()
    if found is not None and found.service != service.name:
        raise UnusableContract(
            f"{folder.path} holds the contracts of service {found.service!r}, and this is {service.name!r}: give each "
            f"service a folder of its own; if it was renamed, delete {folder.path / MANIFEST} and lock again"
        )


def _write(contract: Contract, path: Path, why: Literal["new", "words", "grown"]) -> Write:
    return Write(path=path, text=as_text(schema_of(contract)), why=why)


def _not_locked(contract: Contract, folder: Folder) -> Difference:
    return Difference(
        type=contract.type,
        problem="not locked",
        what=f"it is published and has no contract file {folder.path / file_name(contract)}",
        mend="What is published is locked first: ensue contracts lock, and commit the files",
    )


def _changed(contract: Contract, change: Change) -> Difference:
    only = (
        "fields may be added that need not be there, and nothing else" if contract.changes == "additive" else "nothing"
    )
    return Difference(
        type=contract.type,
        problem="changed",
        path=change.path,
        what=change.what,
        mend=f"Within a version {only} changes: undo it, or keep the class as it was and define another one with "
        "the next version=; @app.downcast(new, old) publishes the old version beside it while somebody reads it",
    )


def _gone(contract: Contract, folder: Folder) -> Difference:
    return Difference(
        type=contract.type,
        problem="gone",
        what=f"{folder.path_of(contract)} is its contract, and the application has no such event",
        mend="An event that is no longer published: see that nobody reads it (ensue contracts readers), then delete "
        "its file. If it is published still, import the module that defines it where the App is made",
    )


def _outdated(service: Service, path: Path) -> Difference:
    was = "is not what the service publishes and reads" if path.exists() else "is not there"
    return Difference(
        type=service.name,
        problem="manifest",
        what=f"{path} {was}",
        mend="The manifest tells other services: ensue contracts lock writes it",
    )


def grown(comparison: Comparison) -> Iterator[Write]:
    """Yield the contracts that have grown, as they may, and are not locked as they are."""
    return (each for each in comparison.writes if each.why == "grown")
