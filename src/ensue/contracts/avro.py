"""Contracts as Avro schemas (https://avro.apache.org).

Avro knows no number of any precision: a decimal is text, unless a precision and a scale are given for all of them.
Times with a zone and durations are text too, as in JSON.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, time
from typing import Any, cast

from ensue.contracts.shapes import (
    MISSING,
    Choice,
    Contract,
    Either,
    Field,
    Many,
    Plain,
    Record,
    Ref,
    Row,
    Shape,
    Table,
    words,
)
from ensue.errors import UnusableContract

Avro = Any
"""A schema: a name, a list for a union, or an object."""

_PLAIN: dict[str, Avro] = {
    "null": "null",
    "boolean": "boolean",
    "integer": "long",
    "number": "double",
    "string": "string",
    "bytes": "bytes",
    "uuid": {"type": "string", "logicalType": "uuid"},
    "decimal": "string",
    "date-time": {"type": "long", "logicalType": "timestamp-micros"},
    "date": {"type": "int", "logicalType": "date"},
    "time-local": {"type": "long", "logicalType": "time-micros"},
    "time": "string",
    "duration": "string",
}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def avro_of(contract: Contract, *, decimal: tuple[int, int] | None = None) -> Avro:
    """Return the Avro schema of a contract; `decimal` is the precision and the scale of its decimals, if they have one.

    Raises `UnusableContract` for what Avro cannot express.
    """
    return _Writing(contract, decimal).event()


class _Writing:
    def __init__(self, contract: Contract, decimal: tuple[int, int] | None) -> None:
        self._contract = contract
        self._decimal = decimal
        self._written: set[str] = set()

    def event(self) -> Avro:
        contract = self._contract
        *namespace, name = re.split(r"[./]", contract.name)
        self._written.add(contract.root.name)
        self._root = self._named(name, "the event")
        schema: dict[str, Avro] = {"type": "record", "name": self._root}
        if namespace:
            schema["namespace"] = ".".join(self._named(each, "the event") for each in namespace)
        schema |= self._inside(contract.root)
        return {**schema, "version": contract.version, **({} if contract.key is None else {"key": contract.key})}

    def _inside(self, record: Record) -> dict[str, Avro]:
        about = {} if record.about is None else {"doc": record.about}
        return {**about, "fields": [self._field(record, each) for each in record.fields]}

    def _field(self, record: Record, field: Field) -> Avro:
        where = f"{record.name}.{field.name}"
        name = self._named(field.name, where)
        about = {} if field.about is None else {"doc": field.about}
        if field.required:
            return {"name": name, **about, "type": self._shape(field.shape, where)}
        if field.default is MISSING:  # it need not be there, and there is nothing to put in its place
            options = self._flat(field.shape)
            either = Either(tuple(dict.fromkeys((Plain("null"), *options))))
            return {"name": name, **about, "type": self._shape(either, where), "default": None}
        options = self._flat(field.shape)
        first = next((each for each in options if self._fits(each, field.default)), None)
        if first is None:
            raise self._unusable(where, f"its default {field.default!r} is not what its schema says")
        shape = Either((first, *(each for each in options if each != first))) if len(options) > 1 else field.shape
        schema = self._shape(shape, where)
        return {"name": name, **about, "type": schema, "default": self._default(first, field.default, where)}

    def _flat(self, shape: Shape) -> tuple[Shape, ...]:
        return shape.options if isinstance(shape, Either) else (shape,)

    def _shape(self, shape: Shape, where: str) -> Avro:
        match shape:
            case Plain(kind):
                return self._plain(kind, where)
            case Many(item):
                return {"type": "array", "items": self._shape(item, f"{where}[]")}
            case Table(value, key):
                if not isinstance(self._contract.resolve(key), (Plain, Choice)) or key == Plain("integer"):
                    raise self._unusable(where, f"the keys of a map are text in Avro, and not {words(key)}")
                return {"type": "map", "values": self._shape(value, f"{where}{{}}")}
            case Either(options):
                return self._union(options, where)
            case Choice():
                return self._choice(shape, where.title().replace(".", "").replace("[]", "Item"), where)
            case Ref(name):
                return self._ref(name, where)
            case Record() | Row():
                raise self._unusable(where, f"{words(shape)} has items of different types, and an Avro array has not")

    def _plain(self, kind: str, where: str) -> Avro:
        if kind == "any":
            raise self._unusable(where, "it may be anything, and Avro has no word for that")
        if kind == "decimal" and self._decimal is not None:
            precision, scale = self._decimal
            return {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}
        return _PLAIN[kind]

    def _union(self, options: Iterable[Shape], where: str) -> Avro:
        found = [self._shape(each, where) for each in options]
        kinds = [_kind(each) for each in found]
        if twice := sorted({each for each in kinds if kinds.count(each) > 1}):
            raise self._unusable(
                where,
                f"{words(Either(tuple(options)))} are {twice[0]} twice over, which an Avro union cannot tell apart",
            )
        return found

    def _choice(self, choice: Choice, name: str, where: str) -> Avro:
        values = [each for each in choice.values if each is not None]
        found: Avro
        if all(isinstance(each, str) and _NAME.match(each) for each in values):
            found = self._enum(self._named(name, where), values)
        elif all(isinstance(each, str) for each in values):
            found = "string"
        elif all(type(each) is int for each in values):
            found = "long"
        else:
            raise self._unusable(where, f"one of {words(choice)}: an Avro enum is all text")
        return found if len(values) == len(choice.values) else ["null", found]

    def _enum(self, name: str, symbols: list[str]) -> Avro:
        if name in self._written:
            return name
        self._written.add(name)
        return {"type": "enum", "name": name, "symbols": symbols}

    def _ref(self, name: str, where: str) -> Avro:
        if name == self._contract.root.name:
            return self._root
        named = self._contract.definitions[name]
        if isinstance(named, Choice):
            return self._choice(named, name, where)
        if name in self._written:
            return name
        if not isinstance(named, Record):
            return self._shape(named, where)
        self._written.add(name)
        return {"type": "record", "name": self._named(name, where), **self._inside(named)}

    # --- defaults

    def _fits(self, shape: Shape, value: Any) -> bool:
        match self._contract.resolve(shape):
            case Plain(kind):
                return type(value) in _TYPES.get(kind, (str,))
            case Choice(values):
                return value in values
            case Many() | Row():
                return isinstance(value, list)
            case _:
                return isinstance(value, dict)

    def _default(self, shape: Shape, value: Any, where: str) -> Any:
        match self._contract.resolve(shape):
            case Plain("decimal") if self._decimal is not None:
                raise self._unusable(
                    where, f"the default {value!r} of a decimal cannot be written; leave out --decimal"
                )
            case Plain(kind):
                return _DEFAULTS[kind](value) if kind in _DEFAULTS else value
            case Many(item):
                return [self._default(item, each, where) for each in cast("list[Any]", value)]
            case Table(of):
                return {name: self._default(of, each, where) for name, each in cast("dict[str, Any]", value).items()}
            case Record() as record:
                given = cast("dict[str, Any]", value)
                return {
                    each.name: self._default(self._first(each, given[each.name]), given[each.name], where)
                    for each in record.fields
                    if each.name in given
                }
            case _:
                return value

    def _first(self, field: Field, value: Any) -> Shape:
        return next((each for each in self._flat(field.shape) if self._fits(each, value)), field.shape)

    # --- names

    def _named(self, name: str, where: str) -> str:
        if not _NAME.match(name):
            raise self._unusable(where, f"{name!r} is no Avro name, which is made of letters, digits and _")
        return name

    def _unusable(self, where: str, what: str) -> UnusableContract:
        return UnusableContract(f"{self._contract.type} cannot be written as Avro: {where}: {what}")


_TYPES: dict[str, tuple[type, ...]] = {
    "null": (type(None),),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "any": (),
}


def _micros(text: str) -> int:
    since = datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _days(text: str) -> int:
    return (date.fromisoformat(text) - date(1970, 1, 1)).days


def _latin(text: str) -> str:
    return base64.b64decode(text).decode("latin-1")


def _time(text: str) -> int:
    at = time.fromisoformat(text)
    return ((at.hour * 60 + at.minute) * 60 + at.second) * 1_000_000 + at.microsecond


_DEFAULTS: dict[str, Any] = {
    "number": float,
    "bytes": _latin,
    "date-time": _micros,
    "date": _days,
    "time-local": _time,
}


def _kind(schema: Avro) -> str:
    """Return what an Avro union tells its alternatives apart by."""
    if isinstance(schema, str):
        return schema
    if isinstance(schema, list):
        return "union"
    found = cast("dict[str, str]", schema)
    return found.get("name") or found["type"]
