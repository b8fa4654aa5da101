"""Contracts: what is published in which structure, how versions differ, and who reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from ensue.console.rendering import plain
from ensue.console.visits import Document, Page, Visit
from ensue.contracts import Folder
from ensue.contracts.asyncapi import asyncapi as document_of
from ensue.contracts.locking import by_name, compare, current_contracts
from ensue.contracts.schemas import as_text, schema_of
from ensue.contracts.service import Publication
from ensue.contracts.shapes import MISSING, Contract, words
from ensue.contracts.verdicts import verdicts
from ensue.drawing import WORDS
from ensue.errors import UnknownName, UnusableContract


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A member of an event, in each of the versions that are compared."""

    name: str
    told: list[str]
    """In words, by version; empty where there is none."""
    differs: bool
    """Whether not all versions have it alike."""


class Reader(msgspec.Struct, frozen=True, kw_only=True):
    """A part of this application that reads versions of an event."""

    name: str
    how: str
    """What it is, in a word."""
    types: list[str]
    """The wire types that it reads."""


def all(visit: Visit) -> Page:
    """Show what is published and what is read."""
    return Page(
        "contracts.html",
        {
            "title": "Contracts",
            "service": visit.app.service(),
            "known": by_name(known(visit).values()),
            "problems": problems(visit),
            "folder": visit.app.contracts,
        },
    )


def problems(visit: Visit) -> list[str]:
    """Say what is not as the contract files say."""
    if visit.app.contracts is None:
        return []
    try:
        return [str(each) for each in compare(visit.app.service(), Folder(visit.app.contracts)).differences]
    except UnusableContract as error:
        return [str(error)]


def known(visit: Visit) -> Mapping[str, Contract]:
    """Return the contracts of what is published: as locked, and as they are now."""
    locked: Mapping[str, Contract] = {}
    if visit.app.contracts is not None:
        try:
            locked = Folder(visit.app.contracts).contracts()
        except UnusableContract:  # the page about all of them says so
            locked = {}
    return {**locked, **current_contracts(visit.app.service())}


def one(visit: Visit) -> Page:
    """Show the versions of an event side by side; it is named by its name, or by the wire type of a version."""
    versions = versions_of(visit, visit.part("name"))
    return Page(
        "contract.html",
        {
            "title": versions[0].name,
            "versions": versions,
            "rows": members_of(versions),
            "verdicts": verdicts(versions),
            "schemas": [as_text(schema_of(each)) for each in versions],
            "channels": channels_of(visit, versions),
            "readers": readers_of(visit, versions),
        },
    )


def versions_of(visit: Visit, name: str) -> list[Contract]:
    """Return the versions of an event in order, by its name or the wire type of one; raise if it is not published."""
    there = known(visit)
    name = there[name].name if name in there else name
    versions = [each for each in there.values() if each.name == name]
    if not versions:
        raise UnknownName(f"{visit.app.name!r} publishes no integration event {name!r}")
    return sorted(versions, key=lambda each: each.version)


def members_of(versions: Sequence[Contract]) -> list[Member]:
    """Return the members of all versions side by side."""
    names = dict.fromkeys(field.name for version in versions for field in version.root.fields)
    found: list[Member] = []
    for name in names:
        told = [_told(version, name) for version in versions]
        found.append(Member(name=name, told=told, differs=len(set(told)) > 1))
    return found


def channels_of(visit: Visit, versions: Sequence[Contract]) -> list[Publication]:
    """Return where versions of an event are published."""
    types = {each.type for each in versions}
    return [each for each in visit.app.service().publishes if each.event.__type__ in types]


def readers_of(visit: Visit, versions: Sequence[Contract]) -> list[Reader]:
    """Return which parts of this application read which versions of an event."""
    types = {each.type for each in versions}
    return [
        Reader(name=part.name, how=WORDS[part.how], types=sorted(types.intersection(part.takes)))
        for part in visit.app.map().parts
        if types.intersection(part.takes)
    ]


def _told(version: Contract, name: str) -> str:
    for field in version.root.fields:
        if field.name == name:
            needed = (
                ""
                if field.required
                else ", optional"
                if field.default is MISSING
                else f", {plain(field.default)} by default"
            )
            return f"{words(field.shape)}{needed}"
    return ""


def asyncapi(visit: Visit) -> Document:
    """Return the AsyncAPI document of the service."""
    return Document(as_text(document_of(visit.app.service(), "1.0.0")), "application/json")
