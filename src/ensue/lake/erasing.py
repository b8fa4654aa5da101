"""What becomes of rows whose events are erased."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ensue.lake.libraries import compute, pa

TOMBSTONE = ("stream", "key", "actor", "headers", "payload", "correlation_id", "causation_id", "traceparent")
"""The columns of an event that are emptied when it is erased."""

STATISTICS = ("source", "sequence", "position", "id", "recorded_at")
"""The columns of which a format may keep the smallest and largest values: its metadata outlives the files."""


def without(rows: Any, ids: Any, at: datetime) -> Any:
    """Return rows with those of these ids emptied, or, in a table of one type, left out."""
    hit = compute.is_in(rows.column("id"), value_set=ids)
    if "payload" not in rows.column_names:
        return rows.filter(compute.invert(hit))
    for name in (*TOMBSTONE, "erased_at"):
        number, column = rows.column_names.index(name), rows.column(name)
        value = pa.scalar(at if name == "erased_at" else None, column.type)
        rows = rows.set_column(number, rows.schema.field(name), compute.if_else(hit, value, column))
    return rows
