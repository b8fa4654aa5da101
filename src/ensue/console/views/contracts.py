"""Contracts: what is published in which structure, how versions differ, and who reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ensue.console.rendering import plain
from ensue.console.visits import Document, Page, Visit
from ensue.contracts import Folder
from ensue.contracts.asyncapi import asyncapi as document_of
from ensue.contracts.locking import by_name, compare, current_contracts
from ensue.contracts.schemas import as_text, schema_of
from ensue.contracts.shapes import MISSING, Contract, words
from ensue.contracts.verdicts import verdicts
from ensue.drawing import WORDS
from ensue.errors import UnknownName, UnusableContract


@dataclass(frozen=True, slots=True)
class Member:
    """A member of an event, in each of the versions that are compared."""

    name: str
    told: tuple[str, ...]
    """In words, empty where there is none."""

    @property
    def differs(self) -> bool:
        """Whether not all versions have it alike."""
        return len(set(self.told)) > 1


def all(visit: Visit) -> Page:
    """Show what is published and what is read."""
    service = visit.app.service()
    problems: list[str] = []
    if visit.app.contracts is not None:
        try:
            problems = [str(each) for each in compare(service, Folder(visit.app.contracts)).differences]
        except UnusableContract as error:
            problems = [str(error)]
    return Page(
        "contracts.html",
        {
            "title": "Contracts",
            "service": service,
            "known": by_name(known(visit).values()),
            "problems": problems,
            "folder": visit.app.contracts,
        },
    )


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
    name, there = visit.part("name"), known(visit)
    name = there[name].name if name in there else name
    versions = [each for each in there.values() if each.name == name]
    if not versions:
        raise UnknownName(f"{visit.app.name!r} publishes no integration event {name!r}")
    versions.sort(key=lambda each: each.version)
    members = {field.name: None for version in versions for field in version.root.fields}
    rows = [Member(each, tuple(_told(version, each) for version in versions)) for each in members]
    service = visit.app.service()
    types = {each.type for each in versions}
    return Page(
        "contract.html",
        {
            "title": versions[0].name,
            "versions": versions,
            "rows": rows,
            "verdicts": verdicts(versions),
            "schemas": [as_text(schema_of(each)) for each in versions],
            "channels": [each for each in service.publishes if each.event.__type__ in types],
            "takers": [
                (part.name, WORDS[part.how], sorted(types.intersection(part.takes)))
                for part in visit.app.map().parts
                if types.intersection(part.takes)
            ],
        },
    )


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
