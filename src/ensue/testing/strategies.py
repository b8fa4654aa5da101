"""Strategies for hypothesis, made from the types of events and commands: pip install 'ensue[testing]'."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import msgspec
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from ensue.events import Event

E = TypeVar("E", bound=Event)

_TEXT = st.characters(codec="utf-8", exclude_characters="\0")  # what PostgreSQL can store
_LARGEST = 2**63 - 1
_PLACES = 2

_PLAIN: dict[Any, SearchStrategy[Any]] = {
    str: st.text(_TEXT),
    int: st.integers(-_LARGEST, _LARGEST),
    float: st.floats(allow_nan=False, allow_infinity=False),
    Decimal: st.decimals(-(10**12), 10**12, places=_PLACES),
    datetime: st.datetimes(timezones=st.just(UTC)),
    Any: st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(_TEXT),
}


def events(cls: type[E], **fields: SearchStrategy[Any]) -> SearchStrategy[E]:
    """Return a strategy for events of a class, such as can be recorded; `fields` replaces those of single fields."""
    return _built(cls, fields)


def arguments(function: Callable[..., Any], **replaced: SearchStrategy[Any]) -> dict[str, SearchStrategy[Any]]:
    """Return a strategy for each parameter of a method, by its annotation, without `self`.

    Raises `TypeError` for a parameter that has neither an annotation nor a replacement.
    """
    names = [name for name in inspect.signature(function).parameters if name != "self"]
    hints = get_type_hints(function, include_extras=True)
    if missing := [name for name in names if name not in hints and name not in replaced]:
        raise TypeError(f"{function.__qualname__}: annotate {', '.join(missing)}, or say what to try: {missing[0]}=…")
    return {name: replaced[name] if name in replaced else values(hints[name]) for name in names}


def values(hint: Any) -> SearchStrategy[Any]:
    """Return a strategy for values of a type, such as can be in an event."""
    if hint in _PLAIN:
        return _PLAIN[hint]
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _constrained(parts[0], [each for each in parts[1:] if isinstance(each, msgspec.Meta)])
    if origin in (Union, UnionType):
        return st.one_of([st.none() if part is NoneType else values(part) for part in parts])
    if origin is Literal or (isinstance(hint, type) and issubclass(hint, Enum)):
        return st.sampled_from(list(parts or cast("Any", hint)))
    if origin in (list, set, frozenset, tuple, dict) or (origin is not None and issubclass(origin, Mapping)):
        return _collected(origin, parts, 0, None)
    if isinstance(hint, type) and (
        issubclass(hint, msgspec.Struct) or is_dataclass(cast("Any", hint)) or _is_named_tuple(cast("Any", hint))
    ):
        return _of_class(cast("Any", hint))
    found: SearchStrategy[Any] = st.from_type(cast("Any", hint))
    return found


@cache
def _of_class(cls: Any) -> SearchStrategy[Any]:
    return _built(cls, {})  # one for each class: it may hold itself


def _built(cls: Any, fields: Mapping[str, SearchStrategy[Any]]) -> SearchStrategy[Any]:
    hints = get_type_hints(cls, include_extras=True)
    if issubclass(cls, msgspec.Struct):
        names = cls.__struct_fields__
    else:
        names = cls._fields if _is_named_tuple(cls) else cls.__dataclass_fields__
    if unknown := fields.keys() - set(names):
        raise TypeError(f"{cls.__qualname__} has no field {', '.join(sorted(unknown))}")
    return st.deferred(
        lambda: st.builds(cls, **{name: fields[name] if name in fields else values(hints[name]) for name in names})
    )


def _is_named_tuple(cls: type[Any]) -> bool:
    return hasattr(cls, "_fields") and issubclass(cls, tuple)


def _collected(origin: Any, parts: tuple[Any, ...], least: int, most: int | None) -> SearchStrategy[Any]:
    if origin is tuple and not (len(parts) == 2 and parts[1] is Ellipsis):
        return st.tuples(*map(values, parts))
    size: dict[str, Any] = {"min_size": least, "max_size": most if most is not None else least + 5}
    if origin in (set, frozenset):
        made: SearchStrategy[Any] = st.frozensets(values(parts[0]), **size)
        return made if origin is frozenset else made.map(set)
    if origin in (list, tuple):
        several: SearchStrategy[Any] = st.lists(values(parts[0]), **size)
        return several if origin is list else several.map(tuple)
    return st.dictionaries(values(parts[0]), values(parts[1]), **size)


def _constrained(hint: Any, metas: list[msgspec.Meta]) -> SearchStrategy[Any]:
    said = {
        name: value
        for meta in metas
        for name in ("gt", "ge", "lt", "le", "multiple_of", "pattern", "min_length", "max_length")
        if (value := getattr(meta, name)) is not None
    }
    least, most = said.get("min_length", 0), said.get("max_length")
    if hint is str:
        if "pattern" in said:
            found = st.from_regex(said["pattern"], alphabet=_TEXT)
            return found.filter(lambda text: least <= len(text) and (most is None or len(text) <= most))
        return st.text(_TEXT, min_size=least, max_size=most)
    if hint is bytes:
        return st.binary(min_size=least, max_size=most)
    if hint in (int, float, Decimal):
        return _number(hint, said)
    if get_origin(hint) is not None:
        return _collected(get_origin(hint), get_args(hint), least, most)
    return values(hint)


def _number(hint: Any, said: Mapping[str, Any]) -> SearchStrategy[Any]:
    if hint is int:
        low = max(said.get("ge", -_LARGEST), said.get("gt", -_LARGEST) + 1)
        high = min(said.get("le", _LARGEST), said.get("lt", _LARGEST) - 1)
        step = said.get("multiple_of", 1)
        return st.integers(-(-low // step), high // step).map(lambda number: number * step)
    low, high = said.get("ge", said.get("gt")), said.get("le", said.get("lt"))
    if hint is float:
        return st.floats(low, high, allow_nan=False, allow_infinity=False).filter(_between(said))
    return st.decimals(low, high, places=_PLACES).filter(_between(said))


def _between(said: Mapping[str, Any]) -> Callable[[Any], bool]:
    return lambda value: ("gt" not in said or value > said["gt"]) and ("lt" not in said or value < said["lt"])
