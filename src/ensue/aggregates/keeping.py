# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false
"""States as JSON, for snapshots: what can be kept, and what would come back as something else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields as dataclass_fields
from dataclasses import is_dataclass
from datetime import datetime
from typing import Any, TypeVar, cast

import msgspec
from msgspec import inspect

from ensue.errors import DeclarationError
from ensue.events.plain import from_plain, to_plain
from ensue.events.structure import parts

T = TypeVar("T")

_encode = msgspec.json.Encoder(enc_hook=to_plain).encode
_CHANGEABLE = (list, dict, set)


class Unkeepable(Exception):
    """A snapshot would not give this state back as it is."""


def check_type(hint: Any, where: str) -> None:
    """Raise `DeclarationError` for a type of which no value can be kept."""
    try:
        info = inspect.type_info(hint)
        decoder_of(hint)
    except TypeError as error:
        raise DeclarationError(f"{where}: {error}. {_ADVICE}") from error
    for part in parts(info, set()):
        if isinstance(part, inspect.CustomType) and not hasattr(part.cls, "model_validate"):
            name = getattr(part.cls, "__qualname__", part.cls)
            raise DeclarationError(f"{where}: a {name} cannot be kept as JSON. {_ADVICE}")


_ADVICE = (
    "A snapshot holds what msgspec knows (numbers, str, UUID, Decimal, datetime, enums, structs, dataclasses, "
    "collections, unions whose structs have tags) and pydantic models: change the type, annotate it as ClassVar if it "
    "is no state, or leave snapshots= out"
)


def decoder_of(hint: Any) -> msgspec.json.Decoder[Any]:
    """Return what reads values of a type."""
    return msgspec.json.Decoder(hint, dec_hook=from_plain)


def encode(value: Any, path: str) -> bytes:
    """Write it down; raise `Unkeepable` for what cannot be."""
    try:
        return _encode(value)
    except Exception as error:
        for name, part in cast("dict[str, Any]", value).items() if isinstance(value, dict) else ():
            encode(part, f"{path}, {name}")
        raise Unkeepable(f"{path}: {error}") from error


def decoded(decode: Callable[[bytes], T], data: bytes) -> T:
    """Read it again; raise `Unkeepable` if that is not possible."""
    try:
        return decode(data)
    except Exception as error:
        raise Unkeepable(f"it could not be read again: {error}") from error


def check_same(value: Any, again: Any, path: str) -> None:
    """Raise `Unkeepable` unless a value has come back as it was, its types too, down to the last part."""
    _compare(value, again, path, {})


def _compare(value: Any, again: Any, path: str, seen: dict[int, str]) -> None:
    kind: type[Any] = cast("Any", type(value))
    if kind is not cast("Any", type(again)):
        raise _altered(path, value, again)
    if issubclass(kind, _CHANGEABLE) and seen.setdefault(id(value), path) != path:
        raise Unkeepable(f"{path} and {seen[id(value)]} are one object, and would be two")
    if issubclass(kind, msgspec.Struct):
        for name in value.__struct_fields__:
            _compare(getattr(value, name), getattr(again, name), f"{path}.{name}", seen)
    elif is_dataclass(kind):
        for field in dataclass_fields(kind):
            _compare(getattr(value, field.name), getattr(again, field.name), f"{path}.{field.name}", seen)
    elif issubclass(kind, Mapping):
        _compare_pairs(value, again, path, seen)
    elif issubclass(kind, (list, tuple)):
        _compare_items(value, again, path, seen)
    elif issubclass(kind, (set, frozenset)):
        known = {each: each for each in again}
        for each in value:
            _compare(each, known.get(each), f"{path}[…]", seen)
        _compare(len(value), len(known), f"len({path})", seen)
    elif value != again or (issubclass(kind, datetime) and value.utcoffset() != again.utcoffset()):
        raise _altered(path, value, again)


def _compare_items(value: Any, again: Any, path: str, seen: dict[int, str]) -> None:
    _compare(len(value), len(again), f"len({path})", seen)
    for number, (one, other) in enumerate(zip(value, again, strict=True)):
        _compare(one, other, f"{path}[{number}]", seen)


def _compare_pairs(value: Any, again: Any, path: str, seen: dict[int, str]) -> None:
    _compare(len(value), len(again), f"len({path})", seen)
    for (key, one), (other_key, other) in zip(value.items(), again.items(), strict=True):
        _compare(key, other_key, f"a key of {path}", seen)
        _compare(one, other, f"{path}[{key!r}]", seen)


def _altered(path: str, value: Any, again: Any) -> Unkeepable:
    return Unkeepable(
        f"{path} is {_shown(value)} and would come back as {_shown(again)}: annotate it with the type that it has"
    )


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__qualname__} {text if len(text) < 80 else text[:77] + '…'}"
