"""Events: the three kinds, what surrounds them in the log, and how they are written down."""

from ensue.events.envelope import (
    RECEIVED_FROM,
    Metadata,
    Receipt,
    Recorded,
    because_of,
    context,
    current_metadata,
    decoder_of,
    follow,
    restored,
)
from ensue.events.ids import new_id
from ensue.events.kinds import (
    Changes,
    Command,
    DomainEvent,
    Event,
    IntegrationEvent,
    Kind,
    SourcedEvent,
    event_class,
    find_class,
    known_types,
)
from ensue.events.observer import DONE, UNDONE, Act, Ending, Observer, Seen, seen
from ensue.events.observers import together
from ensue.events.texts import fault_in
from ensue.events.upcasting import PastEvent, decode, has_past, look_at, stored_types, upcast, upcasters_to
from ensue.events.writing import Written, write, written_again

__all__ = [
    "DONE",
    "RECEIVED_FROM",
    "UNDONE",
    "Act",
    "Changes",
    "Command",
    "DomainEvent",
    "Ending",
    "Event",
    "IntegrationEvent",
    "Kind",
    "Metadata",
    "Observer",
    "PastEvent",
    "Receipt",
    "Recorded",
    "Seen",
    "SourcedEvent",
    "Written",
    "because_of",
    "context",
    "current_metadata",
    "decoder_of",
    "decode",
    "event_class",
    "fault_in",
    "find_class",
    "follow",
    "has_past",
    "known_types",
    "look_at",
    "new_id",
    "restored",
    "seen",
    "stored_types",
    "together",
    "upcast",
    "upcasters_to",
    "write",
    "written_again",
]
