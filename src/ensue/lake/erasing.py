"""Which events are about somebody, and what becomes of their rows when they are erased."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from ensue.errors import LakeError
from ensue.events import look_at
from ensue.events.personal import personal_members
from ensue.lake.libraries import compute, pa

TOMBSTONE = ("stream", "key", "actor", "headers", "payload", "correlation_id", "causation_id", "traceparent")
"""The columns of an event that are emptied when it is erased."""

STATISTICS = ("source", "sequence", "position", "id", "recorded_at")
"""The columns of which a format may keep the smallest and largest values: its metadata outlives the files."""


class StillKept(LakeError):
    """The rows of a table are erased; versions of it from before, which hold them, are kept against our will."""


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


def about(types: Sequence[str]) -> str:
    """Return the condition, in SQL, under which an event of one of these types is about `$subject`."""
    look_at(types)
    cases: list[str] = []
    for type in types:
        fields = personal_members(type).values()
        said = [member_is([member]) for member in sorted({each.subject_member for each in fields if each.subject})]
        unsaid = [_BY_KEY] if any(not each.subject for each in fields) else []
        if said or unsaid:
            cases.append(f"when {_quoted(type)} then {' or '.join((*said, *unsaid))}")
    return f"case type {' '.join(cases)} else {_BY_KEY} end" if cases else _BY_KEY


def member_is(path: Iterable[str]) -> str:
    """Return the condition, in SQL, under which a member of the payload, given from the outside in, is `$subject`."""
    named = "".join('."{}"'.format(part.replace('"', "")) for part in path)
    return f"json_extract_string(payload, {_quoted(f'${named}')}) = $subject"


_BY_KEY = "key = $subject or stream = $subject"


def _quoted(text: str) -> str:
    return "'{}'".format(text.replace("'", "''"))
