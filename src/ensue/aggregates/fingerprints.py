# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false
"""What a snapshot must fit, as text: the structure of a state, what it begins as, and the code that evolves it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields as dataclass_fields
from dataclasses import is_dataclass
from enum import Enum
from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import Any, cast

import msgspec
from msgspec import inspect

from ensue.events import Event, upcasters_to

_ADDRESS = re.compile(r" at 0x[0-9A-Fa-f]+")


def fingerprint(*parts: object) -> str:
    """Return a short text that changes with any of these, and is the same in every process."""
    told = "\n".join(described(each, frozenset()) for each in parts)
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def structure_of(type: Any) -> object:
    """Return what a type is made of, down to the last field and its default."""
    return inspect.type_info(type)


def reading_of(events: Iterable[type[Event]]) -> list[object]:
    """Return what stored events become, as their classes and the upcasters that lead to them say."""
    classes = [each for each in events if hasattr(each, "__structure__")]
    return [
        *((each.__type__, structure_of(each)) for each in classes),
        *((structure_of(source), function) for source, function in upcasters_to(classes)),
    ]


def described(value: Any, around: frozenset[int]) -> str:
    """Write a value down: code by what it does, all else by what it holds, and nothing by where in memory it is."""
    if id(value) in around:
        return "…"
    inside, kind = around | {id(value)}, type(value)
    if issubclass(kind, FunctionType):
        return _of_function(value, inside)
    if issubclass(kind, CodeType):
        return _of_code(value, inside)
    if issubclass(kind, type):
        return _of_class(value, inside)
    parts = _parts(value, kind)
    if parts is None:
        return _ADDRESS.sub("", repr(value))
    texts = [described(each, inside) for each in parts]
    if issubclass(kind, (set, frozenset)):  # they have no order
        texts.sort()
    return f"{kind.__qualname__}({', '.join(texts)})"


def _parts(value: Any, kind: type) -> Iterable[object] | None:
    """Return what a value is made of; None for what has no parts."""
    if issubclass(kind, partial):
        return (value.func, value.args, value.keywords)
    if issubclass(kind, MethodType):
        return (value.__func__, value.__self__)
    if issubclass(kind, msgspec.Struct):
        return [getattr(value, name) for name in kind.__struct_fields__]
    if is_dataclass(kind):
        return [getattr(value, field.name) for field in dataclass_fields(kind)]
    if issubclass(kind, Mapping):
        return [each for pair in value.items() for each in pair]
    if issubclass(kind, (list, tuple, set, frozenset)):
        return cast("Iterable[object]", value)
    call: object = getattr(kind, "__call__", None)  # noqa: B004
    return (call, vars(value)) if isinstance(call, FunctionType) and hasattr(value, "__dict__") else None


def _of_class(cls: Any, around: frozenset[int]) -> str:
    """Name it, with what its type does not tell: the members of an enum, the fields of a pydantic model."""
    schema = getattr(cls, "model_json_schema", None)
    more = [each.value for each in cls] if issubclass(cls, Enum) else None if schema is None else schema()
    return f"{cls.__module__}.{cls.__qualname__} {described(more, around)}"


def _of_function(function: FunctionType, around: frozenset[int]) -> str:
    held = getattr(function, "__wrapped__", None)
    cells = [_content(each) for each in function.__closure__ or ()]
    more = [function.__code__, function.__defaults__, function.__kwdefaults__, held, cells]
    return " ".join(described(each, around) for each in more)


def _content(cell: Any) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # what it will hold is not there yet
        return None


def _of_code(code: CodeType, around: frozenset[int]) -> str:
    constants = [described(each, around) for each in code.co_consts]
    return f"{code.co_code.hex()} {code.co_names} {code.co_varnames} {constants}"
