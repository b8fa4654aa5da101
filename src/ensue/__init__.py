"""What happened is recorded in the transaction that changed it; from that record everything else follows."""

from ensue import errors
from ensue.aggregates import Aggregate, Decider, Snapshots, evolves
from ensue.app import App
from ensue.events import (
    DomainEvent,
    IntegrationEvent,
    Metadata,
    PastEvent,
    Receipt,
    Recorded,
    SourcedEvent,
    context,
    upcast,
)
from ensue.log import ANY, NO_STREAM
from ensue.subscriptions import Backoff, Delivery, Done, Hold, Park, Retry

__all__ = [
    "ANY",
    "NO_STREAM",
    "Aggregate",
    "App",
    "Backoff",
    "Decider",
    "Delivery",
    "Done",
    "DomainEvent",
    "Hold",
    "IntegrationEvent",
    "Metadata",
    "Park",
    "PastEvent",
    "Receipt",
    "Recorded",
    "Retry",
    "Snapshots",
    "SourcedEvent",
    "context",
    "errors",
    "evolves",
    "upcast",
]
