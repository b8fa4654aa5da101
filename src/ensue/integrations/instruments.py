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

# --- counted in each process, as it happens

RECORDED = Instrument(
    "ensue.events.recorded", "counter", "{event}", "Events recorded, also in transactions that rolled back", ("type",)
)
HANDLED = Instrument(
    "ensue.events.handled",
    "counter",
    "{event}",
    "Events given to a handler, by how that ended: done, retry, park, hold, failed, undone",
    ("subscription", "outcome"),
)
RETRIED = Instrument(
    "ensue.events.retried", "counter", "{event}", "Events given to a handler once more", ("subscription",)
)
PARKED = Instrument(
    "ensue.events.parked",
    "counter",
    "{event}",
    "Events that failed: their key waits for the next try, or for a person",
    ("subscription", "waits_for"),
)
PUBLISHED = Instrument(
    "ensue.messages.published",
    "counter",
    "{message}",
    "Messages given to a broker, by how that ended",
    ("subscription", "outcome"),
)
RECEIVED = Instrument(
    "ensue.messages.received", "counter", "{message}", "Messages that a broker has delivered", ("subscription",)
)
LEASES = Instrument(
    "ensue.lease.changes",
    "counter",
    "{change}",
    "Leases of partitions taken, given back and lost",
    ("subscription", "change"),
)
HANDLING = Instrument(
    "ensue.handling.duration",
    "histogram",
    "s",
    "How long a handler took, or the transaction in which several events were applied",
    ("subscription",),
)
PUBLISHING = Instrument(
    "ensue.publishing.duration", "histogram", "s", "How long a broker took for a window", ("subscription",)
)
WAITING = Instrument(
    "ensue.connection.wait", "histogram", "s", "How long somebody waited for a connection of ensue's own"
)

# --- asked of the log when somebody looks: the same from every process

LAG = Instrument(
    "ensue.subscription.lag", "gauge", "{event}", "Events that a subscription has not passed", ("subscription",)
)
AGE = Instrument(
    "ensue.subscription.age", "gauge", "s", "How long ago the first of them was recorded", ("subscription",)
)
CHECKPOINT = Instrument(
    "ensue.subscription.checkpoint",
    "gauge",
    "{position}",
    "The position that all partitions have passed",
    ("subscription",),
)
WAITS = Instrument(
    "ensue.subscription.parked",
    "gauge",
    "{key}",
    "Keys that are parked: for the next try, or for a person",
    ("subscription", "waits_for"),
)
PAUSED = Instrument(
    "ensue.subscription.paused", "gauge", "1", "1 if somebody has paused the subscription", ("subscription",)
)
HELD = Instrument(
    "ensue.subscription.held",
    "gauge",
    "s",
    "For how long what the handler needs has been away; 0 if it is there",
    ("subscription",),
)
PARTITIONS = Instrument(
    "ensue.subscription.partitions",
    "gauge",
    "{partition}",
    "Partitions: worked on, expired (their worker is dead), free (nobody works on them)",
    ("subscription", "state"),
)
HORIZON = Instrument("ensue.log.horizon", "gauge", "{position}", "The position up to which the log is complete")
HORIZON_AGE = Instrument(
    "ensue.log.horizon.age", "gauge", "s", "How long the oldest transaction that holds the horizon back has been open"
)
WORKERS = Instrument("ensue.workers", "gauge", "{worker}", "Workers that have been heard of within a minute")

COUNTED = (RECORDED, HANDLED, RETRIED, PARKED, PUBLISHED, RECEIVED, LEASES, HANDLING, PUBLISHING, WAITING)
ASKED = (LAG, AGE, CHECKPOINT, WAITS, PAUSED, HELD, PARTITIONS, HORIZON, HORIZON_AGE, WORKERS)
