# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false
"""What a class of aggregates declares as state, and which of its defaults every aggregate needs for itself."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from dataclasses import fields as dataclass_fields
from dataclasses import is_dataclass
from datetime import date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from types import FunctionType
from typing import Any, cast
from uuid import UUID

import msgspec

from ensue.errors import DeclarationError

_CHANGEABLE = (list, dict, set)
"""Copied with or without an annotation."""
_UNCHANGEABLE = (
    type(None),
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    Decimal,
    Fraction,
    UUID,
    date,
    datetime,
    time,
    timedelta,
    tzinfo,
    Enum,
    type,
    FunctionType,
)


def classes_below(cls: type, base: type) -> list[type]:
    """Return the classes that a class adds to a base, mixins too, the furthest first."""
    return [each for each in reversed(cls.__mro__) if each not in base.__mro__]


def fields_of(cls: type, base: type) -> tuple[str, ...]:
    """Return the names that are annotated in a class and the mixins and classes between it and a base."""
    return tuple(dict.fromkeys(name for each in classes_below(cls, base) for name in _annotated(each)))


def defaults_to_copy(cls: type, base: type) -> tuple[tuple[str, Any], ...]:
    """Return the defaults that could be changed in place, and so must not be shared.

    Raises `DeclarationError` for one that cannot be copied.
    """
    found: dict[str, Any] = {}
    for each in classes_below(cls, base):
        annotated, shared = set(_annotated(each)), set(_annotated(each, shared=True))
        for name, value in vars(each).items():
            found.pop(name, None)  # overridden
            wanted = name in annotated or isinstance(value, _CHANGEABLE)
            if wanted and name not in shared and not name.startswith("__") and _may_change(value):
                found[name] = value
    for name, value in found.items():
        try:
            copy.deepcopy(value)
        except Exception as error:
            raise DeclarationError(
                f"{cls.__qualname__}.{name}: every aggregate needs a copy of this default, and it cannot be copied "
                f"({error}). Set it in __init__, or annotate it as ClassVar if all aggregates share it"
            ) from error
    return tuple(found.items())


def _annotated(cls: type, *, shared: bool = False) -> Iterator[str]:
    """Yield the names annotated in a class body: those of each object, or those that all share."""
    for name, hint in inspect.get_annotations(cls).items():
        if ("ClassVar" in str(hint)) is shared:
            yield name


def _may_change(value: Any) -> bool:
    """Tell whether a value, or something in it, could be changed in place; in doubt it can."""
    kind: type = type(value)
    if issubclass(kind, _UNCHANGEABLE) or hasattr(kind, "__get__"):
        return False
    if issubclass(kind, (tuple, frozenset)):
        return any(map(_may_change, value))
    if issubclass(kind, msgspec.Struct) and kind.__struct_config__.frozen:
        return any(_may_change(getattr(value, name)) for name in kind.__struct_fields__)
    if is_dataclass(kind) and cast("Any", kind).__dataclass_params__.frozen:
        return any(_may_change(getattr(value, each.name)) for each in dataclass_fields(kind))
    return True
