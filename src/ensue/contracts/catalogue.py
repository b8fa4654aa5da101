"""A catalogue of several services as one HTML page: what each publishes and reads, and how it flows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files

from ensue.contracts.folder import Folder, Manifest, Published, Read
from ensue.contracts.locking import by_name
from ensue.contracts.readers import manifest_in
from ensue.contracts.schemas import as_text, schema_of
from ensue.contracts.shapes import MISSING, Contract, Field, Record, words
from ensue.contracts.verdicts import Verdict, verdicts
from ensue.drawing import Map, MapEvent, Part, svg
from ensue.errors import UnusableContract
from ensue.events import Kind


@dataclass(slots=True)
class _Version:
    """One version of an event, with everybody who has to do with it."""

    type: str
    number: int
    contract: Contract | None = None
    """None if no folder of its publisher is among those that were read."""
    publishers: list[tuple[str, Published]] = field(default_factory=list[tuple[str, Published]])
    readers: list[tuple[str, Read]] = field(default_factory=list[tuple[str, Read]])


@dataclass(slots=True)
class _Catalogue:
    manifests: list[Manifest]
    events: dict[str, dict[int, _Version]]
    """By name and version."""


def catalogue(folders: Iterable[Folder], title: str = "Events between services") -> str:
    """Return the page; raise `UnusableContract` for folders that hold no contracts, or two services of one name."""
    found = _collect(folders)
    names = ", ".join(each.service for each in found.manifests)
    return "\n".join(
        (
            "<!doctype html>",
            '<html lang="en">',
            '<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{_text(title)}</title>",
            f"<style>{_STYLE}</style></head>",
            f"<body><header><h1>{_text(title)}</h1><p>{_text(names)}</p></header>",
            "<main>",
            *_flows(found),
            *_services(found),
            *(line for name, versions in sorted(found.events.items()) for line in _event(name, versions)),
            "</main></body></html>\n",
        )
    )


_STYLE = files("ensue.contracts").joinpath("catalogue.css").read_text("utf-8")


def _collect(folders: Iterable[Folder]) -> _Catalogue:
    manifests: dict[str, Manifest] = {}
    events: dict[str, dict[int, _Version]] = {}

    def version(name: str, number: int) -> _Version:
        return events.setdefault(name, {}).setdefault(number, _Version(f"{name}.v{number}", number))

    for folder in folders:
        manifest = manifest_in(folder)
        if manifest.service in manifests:
            raise UnusableContract(f"{folder.path}: there is a service {manifest.service!r} in another folder already")
        manifests[manifest.service] = manifest
        for contract in folder.contracts().values():
            version(contract.name, contract.version).contract = contract
        for published in manifest.publishes:
            version(published.event, published.version).publishers.append((manifest.service, published))
        for read in manifest.reads:
            version(read.event, read.version).readers.append((manifest.service, read))
    return _Catalogue(sorted(manifests.values(), key=lambda each: each.service), events)


# --- pieces


def _flows(found: _Catalogue) -> Iterator[str]:
    versions = [each for group in found.events.values() for each in group.values()]
    drawing = Map(
        app="Services and their events",
        modules=(),
        events=tuple(MapEvent(type=each.type, kind=Kind.INTEGRATION, module=None) for each in versions),
        parts=tuple(part for each in found.manifests for part in _parts(each)),
    )
    yield '<section><h2 id="flows">Flows</h2><div class="wide">'
    yield svg(drawing).rstrip()
    yield "</div></section>"


def _parts(manifest: Manifest) -> Iterator[Part]:
    """Draw a service at most twice, left as a publisher and right as a reader, so that all arrows go one way."""
    if emits := tuple(dict.fromkeys(each.type for each in manifest.publishes)):
        yield Part(name=manifest.service, how="publishes", module=None, emits=emits)
    if takes := tuple(dict.fromkeys(each.type for each in manifest.reads)):
        yield Part(name=manifest.service, how="reads", module=None, takes=takes)


def _services(found: _Catalogue) -> Iterator[str]:
    yield '<section><h2 id="services">Services</h2>'
    for manifest in found.manifests:
        yield f'<h3 id="{_anchor("service", manifest.service)}">{_text(manifest.service)}</h3>'
        yield from _links("publishes", [each.type for each in manifest.publishes])
        yield from _links("reads", [each.type for each in manifest.reads])
        if not manifest.publishes and not manifest.reads:
            yield "<p>publishes and reads nothing</p>"
    yield "</section>"


def _links(what: str, types: list[str]) -> Iterator[str]:
    if types:
        linked = (
            f'<a href="#{_anchor("event", each)}"><code>{_text(each)}</code></a>' for each in dict.fromkeys(types)
        )
        yield f"<p>{what} {', '.join(linked)}</p>"


def _event(name: str, versions: dict[int, _Version]) -> Iterator[str]:
    yield f'<section><h2 id="{_anchor("event", name)}">{_text(name)}</h2>'
    contracts = [each.contract for each in versions.values() if each.contract is not None]
    judged = {each.new: each for group in by_name(contracts).values() for each in verdicts(group)}
    for number in sorted(versions, reverse=True):
        version = versions[number]
        yield f'<h3 id="{_anchor("event", version.type)}">Version {number}</h3>'
        if version.contract is not None and version.contract.root.about:
            yield f'<p class="about">{_text(version.contract.root.about)}</p>'
        yield from _who(version)
        if version.type in judged:
            yield from _verdict(judged[version.type])
        if version.contract is None:
            yield "<p>Its contract is in none of the folders.</p>"
        else:
            yield from _members(version.contract)
    yield "</section>"


def _who(version: _Version) -> Iterator[str]:
    yield '<dl class="who">'
    publishers = [_place(service, each.channel, None) for service, each in version.publishers]
    readers = [_place(service, each.channel, each.consumer) for service, each in version.readers]
    yield f"<dt>published by</dt><dd>{', '.join(publishers) or 'nobody here'}</dd>"
    yield f"<dt>read by</dt><dd>{', '.join(readers) or 'nobody here'}</dd>"
    if version.contract is not None:
        yield f"<dt>order kept by</dt><dd>{_code(version.contract.key) if version.contract.key else 'nothing'}</dd>"
        if version.contract.changes == "additive":
            yield "<dt>may change</dt><dd>members may be added that need not be there</dd>"
    yield "</dl>"


def _place(service: str, channel: str | None, consumer: str | None) -> str:
    told = f'<a href="#{_anchor("service", service)}">{_text(service)}</a>'
    more = [_code(channel)] if channel else []
    more += [f"as {_code(consumer)}"] if consumer else []
    return f"{told} ({' '.join(more)})" if more else told


def _verdict(verdict: Verdict) -> Iterator[str]:
    said = {
        "full": "it can be read as the version before, and the other way round",
        "backward": "who reads it can read the version before too",
        "forward": "who reads the version before can read it too",
        "none": "neither can be read as the other",
    }[verdict.compatibility]
    yield f'<p><span class="verdict {verdict.compatibility}">{verdict.compatibility}</span> {said}</p>'
    reasons = [f"new reader, old event: {each}" for each in verdict.not_backward]
    reasons += [f"old reader, new event: {each}" for each in verdict.not_forward]
    if reasons:
        yield f"<ul>{''.join(f'<li>{_text(each)}</li>' for each in reasons)}</ul>"


def _members(contract: Contract) -> Iterator[str]:
    yield from _table(contract.root)
    for name in sorted(contract.definitions):
        shape = contract.definitions[name]
        yield f"<h4>{_text(name)}</h4>"
        if isinstance(shape, Record):
            if shape.about:
                yield f'<p class="about">{_text(shape.about)}</p>'
            yield from _table(shape)
        else:
            yield f"<p>{_text(words(shape))}</p>"
    schema = _text(as_text(schema_of(contract)).rstrip())
    yield f"<details><summary>JSON Schema</summary><pre>{schema}</pre></details>"


def _table(record: Record) -> Iterator[str]:
    if not record.fields:
        yield "<p>It has no members.</p>"
        return
    yield '<div class="wide"><table><thead><tr><th>member</th><th>type</th><th></th><th></th></tr></thead><tbody>'
    for each in record.fields:
        cells = (_code(each.name), _text(words(each.shape)), _text(_needed(each)), _text(each.about or ""))
        yield f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
    yield "</tbody></table></div>"


def _needed(field: Field) -> str:
    if field.required:
        return "required"
    return "optional" if field.default is MISSING else f"{field.default!r} by default"


def _anchor(kind: str, name: str) -> str:
    """Return a fragment that no other name shares."""
    return kind + "-" + re.sub(r"[^A-Za-z0-9.]", lambda found: f"_{ord(found[0]):x}_", name)


def _code(text: str) -> str:
    return f"<code>{_text(text)}</code>"


def _text(text: str) -> str:
    return escape("".join(each if each.isprintable() or each == "\n" else "�" for each in text))
