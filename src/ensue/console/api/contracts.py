"""The contracts, as JSON: what is published in which structure, how versions differ, and who reads them."""

from __future__ import annotations

from typing import Any

import msgspec

from ensue.console.api.answers import Asked
from ensue.console.views.contracts import (
    Member,
    Reader,
    channels_of,
    known,
    members_of,
    problems,
    readers_of,
    versions_of,
)
from ensue.console.visits import Visit
from ensue.contracts.locking import by_name
from ensue.contracts.schemas import schema_of
from ensue.contracts.verdicts import Verdict, verdicts


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """An integration event that is published."""

    name: str
    versions: list[int]
    key: str | None
    """The member by which order is kept, in the latest version."""
    about: str | None


class ReadOfOthers(msgspec.Struct, frozen=True, kw_only=True):
    """An event of another service that is read here."""

    type: str
    channel: str | None
    consumer: str | None


class Contracts(msgspec.Struct, frozen=True, kw_only=True):
    """What is published and what is read."""

    published: list[Published]
    reads: list[ReadOfOthers]
    folder: str | None
    """Where the contract files are."""
    problems: list[str]
    """What is not as the files say."""


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """A version of an integration event."""

    version: int
    type: str
    """Its wire type."""
    schema: dict[str, Any]
    """Its JSON Schema."""


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """Where a version is published."""

    type: str
    channel: str | None
    protocol: str | None
    address: str | None


class ContractShown(msgspec.Struct, frozen=True, kw_only=True):
    """The versions of an integration event, side by side."""

    name: str
    versions: list[Version]
    members: list[Member]
    """What they are made of; `told` is in the order of the versions."""
    verdicts: list[Verdict]
    """What each version means for who reads or writes the one before it."""
    readers: list[Reader]
    channels: list[Channel]


def contracts(asked: Asked, visit: Visit) -> Contracts:
    """Return which integration events are published and read, and what is not as the contract files say."""
    folder = visit.app.contracts
    return Contracts(
        published=[
            Published(
                name=name,
                versions=[each.version for each in versions],
                key=versions[-1].key,
                about=versions[-1].root.about,
            )
            for name, versions in by_name(known(visit).values()).items()
        ],
        reads=[
            ReadOfOthers(type=each.event.__type__, channel=each.channel, consumer=each.consumer)
            for each in visit.app.service().reads
        ],
        folder=None if folder is None else str(folder),
        problems=problems(visit),
    )


def contract(asked: Asked, visit: Visit) -> ContractShown:
    """Return the versions of an integration event side by side, how they differ, and who reads which."""
    versions = versions_of(visit, visit.part("event"))
    return ContractShown(
        name=versions[0].name,
        versions=[Version(version=each.version, type=each.type, schema=schema_of(each)) for each in versions],
        members=members_of(versions),
        verdicts=verdicts(versions),
        readers=readers_of(visit, versions),
        channels=[
            Channel(type=each.event.__type__, channel=each.channel, protocol=each.protocol, address=each.address)
            for each in channels_of(visit, versions)
            if each.channel
        ],
    )
