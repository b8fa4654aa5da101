"""A map as Mermaid text (https://mermaid.js.org), which GitHub, GitLab and mkdocs draw."""

from __future__ import annotations

from collections.abc import Iterator

from ensue.drawing.model import WORDS, Map, MapEvent, Part
from ensue.events import Kind

_EVENTS = {Kind.SOURCED: ("[(", ")]"), Kind.DOMAIN: ("([", "])"), Kind.INTEGRATION: ("{{", "}}")}
_STYLES = {
    Kind.SOURCED: "fill:#fff3d1,stroke:#b7791f,color:#1b1f24",
    Kind.DOMAIN: "fill:#e3effd,stroke:#2f6fc4,color:#1b1f24",
    Kind.INTEGRATION: "fill:#dff5e6,stroke:#2a8a4a,color:#1b1f24",
}


def mermaid(map: Map) -> str:
    """Return the map as a Mermaid flow chart: a frame for each module, a shape for each kind of event."""
    return "\n".join(["flowchart LR", *_nodes(map), *_arrows(map), *_styles(map)]) + "\n"


def _nodes(map: Map) -> Iterator[str]:
    for number, module in enumerate(map.modules):
        inside = list(_nodes_of(map, module))
        if inside:
            yield f'    subgraph m{number}["{_text(module)}"]'
            yield from (f"    {each}" for each in inside)
            yield "    end"
    yield from _nodes_of(map, None)


def _nodes_of(map: Map, module: str | None) -> Iterator[str]:
    for number, part in enumerate(map.parts):
        if part.module == module:
            yield f"    p{number}{_part(part)}"
    for number, event in enumerate(map.events):
        if event.module == module:
            yield f"    e{number}{_event(event)}"


def _part(part: Part) -> str:
    if part.how == "aggregate":
        return f'[["{_text(part.name)}"]]'
    if part.how == "entity":
        return f'[["{_text(part.name)}<br/><small>{WORDS[part.how]}</small>"]]'
    return f'["{_text(part.name)}<br/><small>{_text(part.note or WORDS[part.how])}</small>"]'


def _event(event: MapEvent) -> str:
    left, right = _EVENTS[event.kind]
    note = "" if event.note is None else f"<br/><small>{_text(event.note)}</small>"
    return f'{left}"{_text(event.type)}{note}"{right}'


def _arrows(map: Map) -> Iterator[str]:
    numbers = {event.type: number for number, event in enumerate(map.events)}
    for part_number, part in enumerate(map.parts):
        for type in part.takes:
            yield f"    e{numbers[type]} {_arrow(part, type)} p{part_number}"
        for type in part.emits:
            yield f"    p{part_number} {_arrow(part, type)} e{numbers[type]}"


def _arrow(part: Part, type: str) -> str:
    return '-.->|"crosses the boundary"|' if type in part.crosses else "-->"


def _styles(map: Map) -> Iterator[str]:
    for kind, style in _STYLES.items():
        if of_kind := [f"e{number}" for number, event in enumerate(map.events) if event.kind is kind]:
            yield f"    classDef {kind} {style}"
            yield f"    class {','.join(of_kind)} {kind}"


def _text(text: str) -> str:
    """Return text that Mermaid shows as it is: what could mean something to it is written as a number."""
    return "".join(each if each.isalnum() or each in " _.-,:/" else f"#{ord(each)};" for each in text)
