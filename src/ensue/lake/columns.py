"""The columns of a lake's table of all events, and how a recorded event becomes a row and a row a recorded event.

They are documented in docs/reference/lake.md, and stable: none is ever removed, renamed or given another type.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC
from typing import Any

import msgspec

from ensue.events import Recorded
from ensue.lake.libraries import compute, pa
from ensue.log import iso

MOMENT: Any = pa.timestamp("us", tz="UTC")
SCHEMA: Any = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("sequence", pa.int64(), nullable=False),
        pa.field("position", pa.int64()),
        pa.field("id", pa.string(), nullable=False),
        pa.field("type", pa.string(), nullable=False),
        pa.field("contract_version", pa.int32()),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("stream", pa.string()),
        pa.field("stream_version", pa.int64()),
        pa.field("key", pa.string()),
        pa.field("recorded_at", MOMENT, nullable=False),
        pa.field("correlation_id", pa.string()),
        pa.field("causation_id", pa.string()),
        pa.field("actor", pa.string()),
        pa.field("traceparent", pa.string()),
        pa.field("headers", pa.string()),
        pa.field("payload", pa.string()),
        pa.field("erased_at", MOMENT),
        pa.field("date", pa.date32(), nullable=False),
    ]
)
PARTITIONS = ("date", "type")
"""What the table is partitioned by."""
_NAMES = ", ".join(SCHEMA.names)
_VERSION = re.compile(r"\.v([1-9][0-9]{0,8})$")
_encode = msgspec.json.Encoder().encode


class _Extra(msgspec.Struct, omit_defaults=True):
    actor: str | None = None
    traceparent: str | None = None
    headers: dict[str, str] = {}


_decode_extra = msgspec.json.Decoder(_Extra).decode
_NOTHING = _Extra()


def rows_of(source: str, after: int, events: Sequence[Recorded[Any]]) -> Any:
    """Return events as a table; the first gets the sequence number behind `after`."""
    moments = pa.array([each.recorded_at_text for each in events], pa.string())
    recorded_at = compute.cast(compute.utf8_trim(moments, characters='"'), MOMENT)
    types = pa.array([each.type for each in events], pa.string())
    extras = [_NOTHING if each.extra is None else _read_extra(each.extra) for each in events]
    plain = all(each is _NOTHING for each in extras)
    nothing = pa.nulls(len(events), pa.string())
    columns: dict[str, Any] = {
        "source": pa.repeat(pa.scalar(source, pa.string()), len(events)),
        "sequence": pa.array(range(after + 1, after + 1 + len(events)), pa.int64()),
        "position": pa.array([each.position or None for each in events], pa.int64()),
        "id": pa.array([each.id_text for each in events], pa.string()),
        "type": types,
        "contract_version": _versions(types),
        "kind": pa.array([each.kind_text for each in events], pa.string()),
        "stream": pa.array([each.stream for each in events], pa.string()),
        "stream_version": pa.array([each.version for each in events], pa.int64()),
        "key": pa.array([each.own_key or each.stream for each in events], pa.string()),
        "recorded_at": recorded_at,
        "correlation_id": pa.array([each.own_correlation_id or each.id_text for each in events], pa.string()),
        "causation_id": pa.array([each.causation_id for each in events], pa.string()),
        "actor": nothing if plain else pa.array([each.actor for each in extras], pa.string()),
        "traceparent": nothing if plain else pa.array([each.traceparent for each in extras], pa.string()),
        "headers": nothing if plain else pa.array([_headers(each) for each in extras], pa.string()),
        "payload": pa.array([each.data for each in events], pa.string()),
        "erased_at": pa.nulls(len(events), MOMENT),
        "date": compute.cast(recorded_at, pa.date32()),
    }
    return pa.table(columns, schema=SCHEMA)


def _read_extra(text: str) -> _Extra:
    try:
        return _decode_extra(text)
    except msgspec.MsgspecError:  # recorded by SQL; what it says stays in the log, and the event is not held up
        return _NOTHING


def _headers(extra: _Extra) -> str | None:
    return _encode(extra.headers).decode() if extra.headers else None


def _versions(types: Any) -> Any:
    """Return the version that is part of an integration event's type."""
    coded = types.dictionary_encode()
    found = [_VERSION.search(each) for each in coded.dictionary.to_pylist()]
    versions = pa.array([int(each[1]) if each else None for each in found], pa.int32())
    return versions.take(coded.indices)


_BACK = (
    "position", "id", "type", "kind", "stream", "stream_version", "key", "payload", "actor", "traceparent", "headers",
    "correlation_id", "causation_id", "recorded_at", "sequence",
)  # fmt: skip
COLUMNS_BACK = ", ".join(_BACK)
"""What `recorded_of` needs of a row, in its order."""


def recorded_of(row: Sequence[Any]) -> Recorded[Any]:
    """Return the event that a row holds, as its log did; of one without a position, its sequence number stands in."""
    (position, id, type, kind, stream, version, key, payload, actor, trace, headers, correlation, cause, at, number) = (
        row
    )
    extra: str | None = None
    if actor is not None or trace is not None or headers is not None:
        extra = _encode(_Extra(actor, trace, msgspec.json.decode(headers) if headers else {})).decode()
    return Recorded(
        number if position is None else position,
        id,
        type,
        kind,
        stream,
        version,
        None if key == stream else key,
        payload,
        extra,
        None if correlation == id else correlation,
        cause,
        iso(at.astimezone(UTC)),
    )


def recorded_from(rows: Any) -> Iterator[Recorded[Any]]:
    """Return the events of an Arrow table or batch that has the columns which `recorded_of` needs."""
    return map(recorded_of, zip(*(rows.column(name).to_pylist() for name in _BACK), strict=True))
