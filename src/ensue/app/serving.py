"""What an application is to other services."""

from __future__ import annotations

from collections.abc import Iterator

from ensue.app.declarations import Declarations
from ensue.contracts import Publication, Reading, Service
from ensue.events import IntegrationEvent, event_class, known_types


def describe(name: str, declarations: Declarations) -> Service:
    """Describe a service: what it publishes, and what it reads of others.

    Its events are the integration events that have been imported, but for those that say that another service
    publishes them, and those that it receives.
    """
    received = {each.event for each in declarations.readings}
    published = {each.event for each in declarations.publications}
    own = (each for each in _imported() if _is_own(each, name) and each not in received | published)
    return Service(
        name=name,
        publishes=(*declarations.publications, *(Publication(event=each) for each in own)),
        reads=(*declarations.readings, *_handled(name, declarations, received)),
    )


def _imported() -> Iterator[type[IntegrationEvent]]:
    for type in sorted(known_types()):
        cls = event_class(type)
        if issubclass(cls, IntegrationEvent):
            yield cls


def _is_own(event: type[IntegrationEvent], name: str) -> bool:
    return event.__service__ in (None, name)


def _handled(name: str, declarations: Declarations, received: set[type[IntegrationEvent]]) -> Iterator[Reading]:
    """Yield the events of other services that have a handler, and no receiver that says where they come from."""
    for handler in declarations.handlers:
        for each in handler.types:
            if issubclass(each, IntegrationEvent) and not _is_own(each, name) and each not in received:
                yield Reading(event=each, consumer=handler.name)
