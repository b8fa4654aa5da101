"""What is measured: one description, from which the metrics of Prometheus and of OpenTelemetry are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "histogram", "gauge"]


@dataclass(frozen=True, slots=True)
class Instrument:
    """One measure. Its name is OpenTelemetry's; `prometheus` is made of it by their common rules."""

    name: str
    kind: Kind
    unit: str
    """`s`, or what is counted, in braces."""
    about: str
    labels: tuple[str, ...] = ()
    """Beside `app`, which all have."""

    @property
    def prometheus(self) -> str:
        """Its name in Prometheus."""
        unit = "_seconds" if self.unit == "s" else ""
        return self.name.replace(".", "_") + unit + ("_total" if self.kind == "counter" else "")


BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Seconds."""


def _counter(name: str, of: str, about: str, *labels: str) -> Instrument:
    return Instrument(f"ensue.{name}", "counter", f"{{{of}}}", about, labels)


def _histogram(name: str, about: str, *labels: str) -> Instrument:
    return Instrument(f"ensue.{name}", "histogram", "s", about, labels)


def _gauge(name: str, unit: str, about: str, *labels: str) -> Instrument:
    return Instrument(f"ensue.{name}", "gauge", unit, about, labels)


# --- counted in each process, as it happens

RECORDED = _counter("events.recorded", "event", "Events recorded, also in transactions that rolled back", "type")
HANDLED = _counter(
    "events.handled",
    "event",
    "Events given to a handler, by how that ended: done, retry, park, hold, failed, undone",
    "subscription",
    "outcome",
)
RETRIED = _counter("events.retried", "event", "Events given to a handler once more", "subscription")
PARKED = _counter(
    "events.parked",
    "event",
    "Events that failed: their key waits for the next try, or for a person",
    "subscription",
    "waits_for",
)
PUBLISHED = _counter(
    "messages.published", "message", "Messages given to a broker, by how that ended", "subscription", "outcome"
)
RECEIVED = _counter("messages.received", "message", "Messages that a broker has delivered", "subscription")
LEASES = _counter(
    "lease.changes", "change", "Leases of partitions taken, given back and lost", "subscription", "change"
)
HANDLING = _histogram(
    "handling.duration",
    "How long a handler took, or the transaction in which several events were applied",
    "subscription",
)
PUBLISHING = _histogram("publishing.duration", "How long a broker took for a window", "subscription")
WAITING = _histogram("connection.wait", "How long somebody waited for a connection of ensue's own")

# --- asked of the log when somebody looks: the same from every process

LAG = _gauge("subscription.lag", "{event}", "Events that a subscription has not passed", "subscription")
AGE = _gauge("subscription.age", "s", "How long ago the first of them was recorded", "subscription")
CHECKPOINT = _gauge(
    "subscription.checkpoint", "{position}", "The position that all partitions have passed", "subscription"
)
WAITS = _gauge(
    "subscription.parked",
    "{key}",
    "Keys that are parked: for the next try, or for a person",
    "subscription",
    "waits_for",
)
PAUSED = _gauge("subscription.paused", "1", "1 if somebody has paused the subscription", "subscription")
HELD = _gauge(
    "subscription.held",
    "s",
    "For how long what the handler needs has been away; 0 if it is there",
    "subscription",
)
PARTITIONS = _gauge(
    "subscription.partitions",
    "{partition}",
    "Partitions: worked on, expired (their worker is dead), free (nobody works on them)",
    "subscription",
    "state",
)
HORIZON = _gauge("log.horizon", "{position}", "The position up to which the log is complete")
HORIZON_AGE = _gauge(
    "log.horizon.age", "s", "How long the oldest transaction that holds the horizon back has been open"
)
WORKERS = _gauge("workers", "{worker}", "Workers that have been heard of within a minute")

COUNTED = (RECORDED, HANDLED, RETRIED, PARKED, PUBLISHED, RECEIVED, LEASES, HANDLING, PUBLISHING, WAITING)
ASKED = (LAG, AGE, CHECKPOINT, WAITS, PAUSED, HELD, PARTITIONS, HORIZON, HORIZON_AGE, WORKERS)
