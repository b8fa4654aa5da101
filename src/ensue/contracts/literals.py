"""Default values of a contract, written as Python."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

import msgspec

from ensue.contracts.shapes import Choice, Contract, Either, Many, Plain, Record, Ref, Row, Shape, Table
from ensue.errors import UnusableContract


class Literals:
    """Writes values of JSON as the Python that makes them."""

    def __init__(
        self, contract: Contract, class_name: Callable[[str], str], attributes: Callable[[Record], dict[str, str]]
    ) -> None:
        self._contract = contract
        self._class_name = class_name
        self._attributes = attributes

    def of(self, shape: Shape, value: Any) -> str:
        """Write a value of a shape; raise `UnusableContract` if it is none."""
        match self._contract.resolve(shape):
            case Plain(kind):
                return self._plain(kind, value)
            case Choice() as choice:
                return self._choice(shape, choice, value)
            case Many(item, unique):
                return self._many(item, unique, self._list(value))
            case Row() as row:
                return self._row(shape, row, self._list(value))
            case Table(of, key):
                inside = self._dict(value).items()
                return f"{{{', '.join(f'{self.of(key, name)}: {self.of(of, each)}' for name, each in inside)}}}"
            case Record() as record:
                return self._record(shape, record, self._dict(value))
            case Either(options):
                return self._either(options, value)
            case _:  # pragma: no cover: a reference is resolved
                raise self._unusable(value)

    def members(self, choice: Choice) -> dict[Any, str]:
        """Return what the values of an enum are called."""
        found: dict[Any, str] = {}
        for value in choice.values:
            text = str(value).replace("-", "MINUS_") if isinstance(value, int) else str(value)
            name = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_").upper() or "EMPTY"
            if not name[0].isalpha() or isinstance(value, int):
                name = f"VALUE_{name}"
            while name in found.values():
                name += "_"
            found[value] = name
        return found

    def _plain(self, kind: str, value: Any) -> str:
        expected, write = _PLAIN.get(kind, _ANY)
        if not isinstance(value, expected) or (isinstance(value, bool) and kind in ("integer", "number")):
            raise self._unusable(value)
        return write(value)

    def _choice(self, shape: Shape, choice: Choice, value: Any) -> str:
        if value not in choice.values:
            raise self._unusable(value)
        if isinstance(shape, Ref):
            return f"{self._class_name(shape.name)}.{self.members(choice)[value]}"
        return _python(value)

    def _many(self, item: Shape, unique: bool, values: list[Any]) -> str:
        inside = ", ".join(self.of(item, each) for each in values)
        if unique:
            return f"frozenset({{{inside}}})" if inside else "frozenset()"
        return f"({inside}{',' if len(values) == 1 else ''})"

    def _row(self, shape: Shape, row: Row, values: list[Any]) -> str:
        inside = [self.of(item, each) for item, each in zip(row.items, values, strict=False)]
        name = self._class_name(shape.name) if isinstance(shape, Ref) else ""
        return f"{name}({', '.join(inside)}{',' if len(inside) == 1 and not name else ''})"

    def _record(self, shape: Shape, record: Record, values: dict[str, Any]) -> str:
        attributes = self._attributes(record)
        given = [
            f"{attributes[each.name]}={self.of(each.shape, values[each.name])}"
            for each in record.fields
            if each.name in values and not (isinstance(each.shape, Choice) and len(each.shape.values) == 1)
        ]
        if not isinstance(shape, Ref) or any(each.required and each.name not in values for each in record.fields):
            raise self._unusable(values)
        return f"{self._class_name(shape.name)}({', '.join(given)})"

    def _either(self, options: tuple[Shape, ...], value: Any) -> str:
        for option in options:
            try:
                return self.of(option, value)
            except UnusableContract:
                continue
        raise self._unusable(value)

    def _list(self, value: object) -> list[Any]:
        if not isinstance(value, list):
            raise self._unusable(value)
        return [*value]

    def _dict(self, value: object) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self._unusable(value)
        return cast("dict[str, Any]", value)

    def _unusable(self, value: Any) -> UnusableContract:
        return UnusableContract(f"{self._contract.type}: the default {value!r} is not what its schema says")


def _python(value: Any) -> str:
    return f'"{repr(value)[1:-1]}"' if isinstance(value, str) and not set("'\"") & set(value) else repr(value)


def _duration(text: str) -> str:
    found = msgspec.convert(text, timedelta)
    return f"dt.timedelta(days={found.days}, seconds={found.seconds}, microseconds={found.microseconds})"


def _is_whole(text: str) -> bool:
    return text.isascii() and text.isdigit() and str(int(text)) == text


def _iso(name: str) -> Callable[[str], str]:
    return lambda text: f"dt.{name}.fromisoformat({_python(text)})"


_Plain = tuple[Any, Callable[[Any], str]]
_ANY: _Plain = (object, _python)
_PLAIN: dict[str, _Plain] = {
    "null": (type(None), _python),
    "boolean": (bool, _python),
    "integer": (int, _python),
    "number": ((int, float), lambda value: repr(float(value))),
    "string": (str, _python),
    "bytes": (str, lambda text: repr(base64.b64decode(text))),
    "uuid": (str, lambda text: f"UUID({_python(text)})"),
    "decimal": (str, lambda text: f"Decimal({text if _is_whole(text) else _python(text)})"),
    "date-time": (str, _iso("datetime")),
    "date": (str, _iso("date")),
    "time": (str, _iso("time")),
    "time-local": (str, _iso("time")),
    "duration": (str, _duration),
}
