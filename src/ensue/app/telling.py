"""What is said to people in the same words everywhere: moments, durations, numbers, JSON."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from ensue.errors import EnsueError
from ensue.events import Recorded
from ensue.subscriptions import seconds as duration
from ensue.subscriptions.inspecting import Known


def moment(at: datetime) -> str:
    """Return a moment for people, in UTC."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def ago(at: datetime) -> str:
    """Return how long ago it was."""
    return span((datetime.now(UTC) - at).total_seconds())


def until(at: datetime) -> str:
    """Return in how long it is."""
    left = (at - datetime.now(UTC)).total_seconds()
    return f"in {span(left)}" if left > 0 else "now"


def span(seconds: float) -> str:
    """Return a duration in its two largest units."""
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    whole = int(seconds)
    for size, unit, smaller_size, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller_size
            return f"{whole // size} {unit} {rest} {smaller}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def read_moment(text: str) -> datetime | None:
    """Read a moment: ISO 8601, in UTC unless it says otherwise, or how long ago: 90s, 15m, 2h, 3d; None: it is none."""
    try:
        return datetime.now(UTC) - timedelta(seconds=duration(text))
    except (EnsueError, OverflowError):
        pass
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def count(number: int, one: str, many: str | None = None) -> str:
    """Return "1 event", "2 events"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def when(known: Known, recorded_at: datetime) -> str:
    """Say what is known of when an event was done."""
    within = span((known.by - recorded_at).total_seconds())
    said = f"by {moment(known.by)}, within {within} of its recording"
    if known.checkpoint is not None:
        return f"{said}: checkpoint {known.checkpoint:,}{f' of {known.worker}' if known.worker else ''}"
    parked = f"set aside at {moment(known.parked_at)}" if known.parked_at is not None else "set aside"
    failed = f", {count(known.failures, 'failed attempt')}" if known.failures else ""
    ended = "given up" if known.given_up else "done"
    return f"{said}: {parked}{failed}, {ended}{f' in {known.worker}' if known.worker else ''}"


def line(text: str) -> str:
    """Return a text on one line."""
    return " ".join(text.split())


def pretty(text: str) -> str:
    """Return stored JSON on several lines, its numbers to the letter; text that is none as it is."""
    try:
        return msgspec.json.format(text, indent=2)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return text


def raw(text: str | None) -> Any:
    """Return stored JSON so that it is printed as it is; text that is none as text."""
    if text is None:
        return None
    try:
        return msgspec.Raw(msgspec.json.format(text.encode(), indent=-1))
    except (msgspec.DecodeError, UnicodeEncodeError):
        return text


def event_as_json(recorded: Recorded[Any]) -> dict[str, Any]:
    """Return an event as the log holds it, for programs; its class is not needed."""
    return {
        "position": recorded.position,
        "id": recorded.id_text,
        "type": recorded.type,
        "kind": recorded.kind_text,
        "stream": recorded.stream,
        "version": recorded.version,
        "key": recorded.key,
        "data": raw(recorded.shown),
        "metadata": raw(recorded.extra),
        "correlation_id": recorded.correlation_id,
        "causation_id": recorded.causation_id,
        "recorded_at": recorded.recorded_at,
    }
