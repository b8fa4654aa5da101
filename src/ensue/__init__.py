"""What happened is recorded in the transaction that changed it; from that record everything else follows."""

from ensue import errors
from ensue.aggregates import Aggregate, Decider, Snapshots, evolves
from ensue.app import App
from ensue.events import (
    Command,
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
from ensue.events.personal import Personal, personal
from ensue.handlers.processes import Process, moves, starts
from ensue.handlers.projections.classes import Projection, applies
from ensue.handlers.timers import Timer
from ensue.log import ANY, NO_STREAM
from ensue.subscriptions import Backoff, Delivery, Done, Hold, Park, Retry

__all__ = [
    "ANY",
    "NO_STREAM",
    "Aggregate",
    "App",
    "Backoff",
    "Command",
    "Decider",
    "Delivery",
    "Done",
    "DomainEvent",
    "Hold",
    "IntegrationEvent",
    "Metadata",
    "Park",
    "PastEvent",
    "Personal",
    "Process",
    "Projection",
    "Receipt",
    "Recorded",
    "Retry",
    "Snapshots",
    "SourcedEvent",
    "Timer",
    "applies",
    "context",
    "errors",
    "evolves",
    "moves",
    "personal",
    "starts",
    "upcast",
]
