"""A table for each type of event, with the event's fields as typed columns.

It is filled from the table of all events, with a checkpoint of its own: whenever the collector is killed, and whenever
a class becomes known, what is missing is read from there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, cast
from uuid import UUID

import msgspec
from msgspec import inspect

from ensue.errors import Overtaken
from ensue.events import Event, find_class
from ensue.lake.address import Address
from ensue.lake.columns import MOMENT
from ensue.lake.libraries import compute, pa
from ensue.lake.seeing import rows, seeing
from ensue.lake.table import Checkpoint, Table

_AROUND: Any = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("sequence", pa.int64(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("key", pa.string()),
        pa.field("recorded_at", MOMENT, nullable=False),
        pa.field("date", pa.date32(), nullable=False),
    ]
)
_MISFITS = "misfits"
"""The names of fields whose values did not fit their columns, in which they are null; the payload has them."""
_NEEDED = ("source", "sequence", "id", "key", "recorded_at", "date", "payload")
_BATCH = 50_000
_DECIMAL: Any = pa.decimal128(38, 9)

Convert = Callable[[Any], Any]
"""Makes of a JSON value what a column holds; raises `ValueError` or `TypeError` if it does not fit."""


def view_name(type: str) -> str:
    """Return the name of the table of a type: `OrderPlaced.v1` is `order_placed_v1`."""
    words = re.sub(r"([a-z0-9])([A-Z])|([A-Z])([A-Z][a-z])", _split, type)
    return re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_") or "event"


def _split(found: re.Match[str]) -> str:
    return "_".join(part for part in found.groups() if part)


def columns_of(cls: type[Event]) -> dict[str, tuple[Any, Convert]]:
    """Return the columns that the fields of an event class become, with what fills them.

    A field that is named as a column of the envelope gets an underscore behind it.
    """
    taken = {*_AROUND.names, _MISFITS}
    found: dict[str, tuple[Any, Convert]] = {}
    described = inspect.type_info(cls)
    if not isinstance(described, inspect.StructType):
        return found
    for field in described.fields:
        found[field.encode_name + "_" * (field.encode_name in taken)] = _column(field.type)
    return found


def _column(type: inspect.Type) -> tuple[Any, Convert]:
    if isinstance(type, inspect.UnionType):
        others = [each for each in type.types if not isinstance(each, inspect.NoneType)]
        return _column(others[0]) if len(others) == 1 else (pa.string(), _as_json)
    for described, column, convert in _COLUMNS:
        if isinstance(type, described):
            return column, convert
    return pa.string(), _as_json


def _as_json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not -(2**63) <= value < 2**63:
        raise TypeError
    return value


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError
    return float(value)


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _exact(value: Any) -> Decimal:
    try:
        found = Decimal(value if isinstance(value, str) else repr(value))
        fits = found.is_finite() and abs(found) < Decimal(10) ** 29 and found == round(found, 9)
    except InvalidOperation:
        raise ValueError from None
    if not fits:
        raise ValueError
    return found


def _moment(value: Any) -> datetime:
    found = datetime.fromisoformat(value)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)


_COLUMNS: Sequence[tuple[type[inspect.Type], Any, Convert]] = (
    (inspect.BoolType, pa.bool_(), _truth),
    (inspect.IntType, pa.int64(), _whole),
    (inspect.FloatType, pa.float64(), _number),
    (inspect.StrType, pa.string(), _text),
    (inspect.DecimalType, _DECIMAL, _exact),
    (inspect.DateTimeType, MOMENT, _moment),
    (inspect.DateType, pa.date32(), date.fromisoformat),
    (inspect.UUIDType, pa.string(), lambda value: str(UUID(value))),
)

_decode = msgspec.json.Decoder().decode


def rows_of_type(cls: type[Event], schema: Any, events: Any) -> Any:
    """Return rows of the table of all events as rows of the table of their type."""
    payloads: list[Any] = [_decode(each) for each in events.column("payload").to_pylist()]
    misfits: list[list[str]] = [[] for _ in payloads]
    columns: dict[str, Any] = {name: events.column(name) for name in _AROUND.names}
    for name, (column, convert) in columns_of(cls).items():
        field = name if name not in (*(f"{each}_" for each in _AROUND.names), f"{_MISFITS}_") else name[:-1]
        values: list[Any] = []
        for payload, wrong in zip(payloads, misfits, strict=True):
            value = cast("dict[str, Any]", payload).get(field) if isinstance(payload, dict) else None
            try:
                values.append(None if value is None else convert(value))
            except (ValueError, TypeError):
                values.append(None)
                wrong.append(field)
        columns[name] = pa.array(values, column)
    columns[_MISFITS] = pa.array([",".join(each) or None for each in misfits], pa.string())
    return pa.table({name: columns[name] for name in schema.names if name in columns}, schema=schema)


def schema_of(cls: type[Event]) -> Any:
    """Return the schema of the table of a type."""
    fields = [pa.field(name, column) for name, (column, _) in columns_of(cls).items()]
    return pa.schema([*_AROUND, *fields, pa.field(_MISFITS, pa.string())])


class Typing:
    """Fills the tables of single types, for one source."""

    def __init__(self, address: Address, source: str) -> None:
        self._address = address
        self._events = address.table("events")
        self._source = source
        self._tables: dict[str, tuple[Table, type[Event], Any]] = {}

    def add(self, events: Any) -> None:
        """Add what has just been committed to the table of all events."""
        for type, chosen in _by_type(events):
            found = self._table(type)
            if found is None:
                continue
            table, cls, schema = found
            before = table.checkpoint(self._source)
            numbers = chosen.column("sequence")
            first, last = numbers[0].as_py(), numbers[-1].as_py()
            if before.sequence >= first:
                continue  # another collector has caught up with it
            try:
                table.append(rows_of_type(cls, schema, chosen), self._source, before, Checkpoint(last, last))
            except Overtaken:
                continue

    def catch_up(self) -> None:
        """Add all that is in the table of all events and not yet in that of its type."""
        for type, last in self._newest():
            found = self._table(type)
            if found is None:
                continue
            while (before := found[0].checkpoint(self._source)).sequence < last:
                for batch in self._behind(type, before.sequence):
                    self.add(batch)
                if found[0].checkpoint(self._source) == before:
                    break  # the rest was erased

    def _table(self, type: str) -> tuple[Table, type[Event], Any] | None:
        """Return the table of a type, if its class is known."""
        if type not in self._tables:
            cls = find_class(type)
            if cls is None:
                return None
            table, schema = self._address.table(view_name(type)), schema_of(cls)
            if not table.exists():
                table.create(schema, ("date",), {"ensue.type": type})
            self._tables[type] = (table, cls, schema)
        return self._tables[type]

    def _newest(self) -> list[tuple[str, int]]:
        asked = (
            "select type, max(sequence) from events where source = $source and erased_at is null group by 1 order by 1"
        )
        return [(type, last) for type, last in rows(asked, {"source": self._source}, events=self._events.data())]

    def _behind(self, type: str, sequence: int) -> Iterator[Any]:
        asked = (
            f"select type, {', '.join(_NEEDED)} from events where source = $source and type = $type "
            "and sequence > $sequence and erased_at is null order by sequence"
        )
        with seeing(events=self._events.data()) as connection:
            about = {"source": self._source, "type": type, "sequence": sequence}
            for batch in connection.sql(asked, params=about).to_arrow_reader(_BATCH):
                yield pa.Table.from_batches([batch])


def _by_type(events: Any) -> Iterator[tuple[str, Any]]:
    types = events.column("type")
    for type in compute.unique(types).to_pylist():
        yield type, events.filter(compute.equal(types, type))
