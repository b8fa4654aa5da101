"""Who reads which version of a service's events, as the manifests of other services say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from ensue.contracts.folder import Folder, Manifest, Read, event_name
from ensue.contracts.service import Service
from ensue.errors import UnusableContract


class Reader(msgspec.Struct, frozen=True, kw_only=True):
    """A service that reads a version of an event."""

    service: str
    consumer: str | None
    channel: str | None


class Readers(msgspec.Struct, frozen=True, kw_only=True):
    """Who reads a version of an event."""

    event: str
    version: int
    type: str
    published: bool
    """The service publishes it. If not, its readers wait in vain."""
    readers: list[Reader]


def readers(service: Service, folders: Iterable[Folder]) -> list[Readers]:
    """Return who reads each version of what a service publishes, and what it is taken to publish and does not.

    A reader that does not say whose event it reads counts, if the service has an event of that name.
    """
    manifests = [each for each in map(manifest_in, folders) if each.service != service.name]
    published = dict.fromkeys(sorted((each.event.__type__ for each in service.publishes), key=_order))
    names = {event_name(type) for type in published}
    found: dict[str, list[Reader]] = {type: [] for type in published}
    for manifest, read in _reads(manifests):
        if read.service == service.name or (read.service is None and read.event in names):
            reader = Reader(service=manifest.service, consumer=read.consumer, channel=read.channel)
            found.setdefault(read.type, []).append(reader)
    return [
        Readers(
            event=event_name(type),
            version=_order(type)[1],
            type=type,
            published=type in published,
            readers=found[type],
        )
        for type in sorted(found, key=_order)
    ]


def manifest_in(folder: Folder) -> Manifest:
    """Return the manifest of a folder; raise `UnusableContract` if there is none."""
    found = folder.manifest()
    if found is None:
        raise UnusableContract(f"{folder.path} has no service.json: `ensue contracts lock` writes it")
    return found


def _reads(manifests: Iterable[Manifest]) -> Iterator[tuple[Manifest, Read]]:
    for manifest in manifests:
        for read in manifest.reads:
            yield manifest, read


def _order(type: str) -> tuple[str, int]:
    name, _, version = type.rpartition(".v")
    return name, int(version)
