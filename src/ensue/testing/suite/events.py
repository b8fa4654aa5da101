"""The events that the behaviours record: one or two of each kind."""

from __future__ import annotations

from ensue.events import DomainEvent, IntegrationEvent, SourcedEvent
from ensue.events.personal import Personal


class Noted(DomainEvent, name="ensue.suite.noted"):
    """It has no key, hence no order to keep."""

    text: str


class Counted(DomainEvent, key="place", name="ensue.suite.counted"):
    place: str
    number: int


class Deposited(SourcedEvent, name="ensue.suite.deposited"):
    amount: int


class Announced(IntegrationEvent, version=1, key="place", name="ensue.suite.announced"):
    place: str


class Joined(DomainEvent, key="person", subject="person", name="ensue.suite.joined"):
    person: str
    email: Personal[str]
    place: str = "here"
