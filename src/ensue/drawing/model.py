"""What is drawn: events, and the parts that emit and take them."""

from __future__ import annotations

import msgspec

from ensue.events import Kind

WORDS = {
    "sourced": "event-sourced event",
    "domain": "domain event",
    "integration": "integration event",
    "aggregate": "aggregate",
    "entity": "entity",
    "on": "reaction",
    "handle": "command handler",
    "process": "process manager",
    "step": "step",
    "within": "within recording",
    "translate": "translation",
    "downcast": "downcast",
    "projection": "projection",
    "relay": "relay",
    "receive": "receiver",
    "inbox": "inbox",
    "publishes": "publishes",
    "reads": "reads",
    "broker": "broker",
    "service": "another service",
}
"""What people call kinds and parts."""


class MapEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event on the map."""

    type: str
    """Its wire type."""
    kind: Kind
    module: str | None
    """The module that owns it, else the only one that emits it; None if there is none."""
    note: str | None = None
    """What is said of it, instead of its kind."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """An aggregate or a handler on the map."""

    name: str
    how: str
    """`aggregate`, `entity`, `translate`, `downcast`, `relay`, `receive`, `inbox`, `on`, `handle`, `process` or
    `within`; `publishes` or `reads` where services are drawn, `step` where a process is; `broker` or `service` beside
    one."""
    module: str | None
    takes: tuple[str, ...] = ()
    """Wire types of the events that it is called with."""
    emits: tuple[str, ...] = ()
    """Wire types of the events that it records, as far as its declaration says so."""
    crosses: tuple[str, ...] = ()
    """Those of its events that are private to another module."""
    note: str | None = None
    """What is said of it, instead of what it is."""


class Map(msgspec.Struct, frozen=True, kw_only=True):
    """The events of a service, who emits them and who takes them."""

    app: str
    modules: tuple[str, ...]
    events: tuple[MapEvent, ...]
    parts: tuple[Part, ...]
