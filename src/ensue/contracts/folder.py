"""A folder of contract files: one JSON Schema for each event and version, and the manifest of the service."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import msgspec

from ensue.contracts.reading import contract_of_text
from ensue.contracts.schemas import as_text
from ensue.contracts.service import Service
from ensue.contracts.shapes import Contract
from ensue.errors import UnusableContract
from ensue.events import stored_types

MANIFEST = "service.json"
_VERSIONED = re.compile(r"\.v\d+$")


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """An event that a service publishes, as its manifest names it."""

    event: str
    version: int
    type: str
    channel: str | None = None


class Read(msgspec.Struct, frozen=True, kw_only=True):
    """An event of another service that a service reads, as its manifest names it."""

    event: str
    version: int
    type: str
    service: str | None = None
    """The service that publishes it, as far as its class says so."""
    channel: str | None = None
    consumer: str | None = None


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a service publishes and reads, for other services to look at."""

    service: str
    publishes: list[Published] = []
    reads: list[Read] = []


def manifest_of(service: Service) -> Manifest:
    """Return the manifest of a service: its events, and the channels that others find them in.

    Which broker carries a channel is left out, its kind too: that differs from place to place.
    """
    publishes = {
        Published(
            event=event_name(each.event.__type__),
            version=each.event.__version__ or 0,
            type=each.event.__type__,
            channel=each.channel,
        )
        for each in service.publishes
    }
    reads = {
        Read(
            event=event_name(type),
            version=int(type.rpartition(".v")[2]),
            type=type,
            service=each.event.__service__,
            channel=each.channel,
            consumer=each.consumer,
        )
        for each in service.reads
        for type in stored_types(each.event)  # older versions too, if they are upcast
        if _VERSIONED.search(type)
    }
    return Manifest(
        service=service.name,
        publishes=sorted(publishes, key=lambda each: (each.event, each.version, each.channel or "")),
        reads=sorted(reads, key=lambda each: (each.event, each.version, each.channel or "", each.consumer or "")),
    )


def event_name(type: str) -> str:
    """Return the name in a wire type, without the version."""
    return type.rpartition(".v")[0]


def manifest_text(manifest: Manifest) -> str:
    """Return a manifest as it stands in its file."""
    return as_text(msgspec.to_builtins(manifest))


def file_name(contract: Contract) -> str:
    """Return the name of a contract's file."""
    return f"{quote(contract.name, safe=' ')}.v{contract.version}.json"


class Folder:
    """The contract files of one service."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def contracts(self) -> dict[str, Contract]:
        """Return the locked contracts by wire type, in the order of name and version.

        Raises `UnusableContract` for a file that is none.
        """
        found: dict[str, Contract] = {}
        for path in self._files():
            contract = read_contract(path)
            if contract.type in found:
                raise UnusableContract(f"{path} is the contract of {contract.type}, of which there is a file already")
            found[contract.type] = contract
        return dict(sorted(found.items(), key=lambda each: (each[1].name, each[1].version)))

    def manifest(self) -> Manifest | None:
        """Return the manifest; None if there is none. Raises `UnusableContract` for what is none."""
        path = self.path / MANIFEST
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UnusableContract(f"{path} cannot be read: {error.strerror}") from error
        try:
            return msgspec.json.decode(text, type=Manifest)
        except msgspec.MsgspecError as error:
            raise UnusableContract(
                f"{path} is no manifest of a service: {error}; `ensue contracts lock` writes it"
            ) from error

    def path_of(self, contract: Contract) -> Path:
        """Return where the contract's file is, or belongs."""
        own = self.path / file_name(contract)
        if own.exists():
            return own
        return next((each for each in self._files() if read_contract(each).type == contract.type), own)

    def _files(self) -> Iterator[Path]:
        if self.path.is_dir():
            yield from (each for each in sorted(self.path.glob("*.json")) if each.name != MANIFEST)


def read_contract(path: Path) -> Contract:
    """Read one contract file; raise `UnusableContract` for what is none."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise UnusableContract(f"{path} cannot be read: {error.strerror}") from error
    return contract_of_text(text, str(path))


def find_folders(places: list[Path]) -> list[Folder]:
    """Return the folders with a manifest that are in these places, however deep; hidden folders are passed by.

    Raises `UnusableContract` for a place that is not there or holds none.
    """
    found: dict[Path, Folder] = {}
    for place in places:
        if not place.is_dir():
            raise UnusableContract(f"there is no folder {place}")
        manifests = [each for each in sorted(place.rglob(MANIFEST)) if not _is_hidden(each.relative_to(place))]
        if not manifests:
            raise UnusableContract(
                f"no {MANIFEST} is in {place} or below it: a service writes it into its contracts folder with "
                "`ensue contracts lock`"
            )
        found.update((each.parent.resolve(), Folder(each.parent)) for each in manifests)
    return list(found.values())


_PASSED_BY = frozenset(("node_modules", "site-packages"))


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") or part in _PASSED_BY for part in path.parts)
