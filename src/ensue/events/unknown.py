# pyright: reportUnknownArgumentType=false
"""What is stored with an event and its structure does not take, down to the last part: walked side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import msgspec
from msgspec import inspect

_decode = msgspec.json.Decoder().decode
_info = cache(inspect.type_info)

_Fields = Mapping[str, inspect.Type | None]


def unknown_paths(cls: type[msgspec.Struct], data: str) -> frozenset[str]:
    """Return the paths of members that the structure has no place for: `name`, `address.zip`, `lines[].note`."""
    return frozenset(_unknown(_info(cls), _decode(data), ""))


def _unknown(info: inspect.Type | None, value: Any, path: str) -> Iterator[str]:
    if isinstance(info, inspect.Metadata):
        yield from _unknown(info.type, value, path)
    elif isinstance(info, inspect.UnionType):
        yield from _least(info, value, path)
    elif isinstance(value, list):
        yield from _in_list(info, value, path)
    elif isinstance(value, dict):
        yield from _in_object(info, value, path)


def _in_list(info: inspect.Type | None, values: list[Any], path: str) -> Iterator[str]:
    items = _items(info)
    for number, value in enumerate(values):
        if isinstance(items, inspect.Type):
            yield from _unknown(items, value, f"{path}[]")
        elif items is not None and number < len(items):
            yield from _unknown(items[number], value, f"{path}[]")
        elif items is not None:
            yield f"{path}[{number}]"


def _in_object(info: inspect.Type | None, members: dict[str, Any], path: str) -> Iterator[str]:
    if isinstance(info, inspect.DictType):
        for value in members.values():
            yield from _unknown(info.value_type, value, f"{path}[]")
        return
    fields = _fields(info)
    for name, value in members.items() if fields is not None else ():
        inside = f"{path}.{name}" if path else name
        if fields is not None and name in fields:
            yield from _unknown(fields[name], value, inside)
        else:
            yield inside


def _items(info: inspect.Type | None) -> inspect.Type | list[inspect.Type | None] | None:
    """Return the type of all items of a list, or of each; None for what takes anything, or no list."""
    match info:
        case inspect.CollectionType():
            return info.item_type
        case inspect.TupleType():
            return [*info.item_types]
        case inspect.NamedTupleType():
            return [each.type for each in info.fields]
        case inspect.StructType(array_like=True):
            tag = [] if info.tag is None else [None]
            return [*tag, *(each.type for each in info.fields)]
        case _:
            return None


def _fields(info: inspect.Type | None) -> _Fields | None:
    """Return the types of an object's members by their names in JSON; None for what takes anything, or no object."""
    match info:
        case inspect.StructType(array_like=False):
            tag = {} if info.tag_field is None else {info.tag_field: None}
            return {**{each.encode_name: each.type for each in info.fields}, **tag}
        case inspect.DataclassType() | inspect.TypedDictType():
            return {each.encode_name: each.type for each in info.fields}
        case inspect.CustomType() if hasattr(info.cls, "model_fields"):
            return _fields_of_model(info.cls)
        case _:
            return None


def _fields_of_model(cls: Any) -> _Fields:
    """Return those of a pydantic model, which may have other names in JSON."""
    found: dict[str, inspect.Type | None] = {}
    by_name = bool(cls.model_config.get("populate_by_name") or cls.model_config.get("validate_by_name"))
    for name, field in cls.model_fields.items():
        alias: Any = field.validation_alias or field.alias
        for each in (alias, *((name,) if by_name else ())) if isinstance(alias, str) else (name,):
            found[each] = _info(field.annotation)
    return found


def _least(info: inspect.UnionType, value: Any, path: str) -> Iterator[str]:
    """Take the part of a union that the value's tag names, or that has a place for most of it."""
    parts = [each.type if isinstance(each, inspect.Metadata) else each for each in info.types]
    if isinstance(value, dict):
        tagged = [each for each in parts if isinstance(each, inspect.StructType) and each.tag_field in value]
        parts = [each for each in tagged if each.tag == value[str(each.tag_field)]] or parts
        parts = [each for each in parts if isinstance(each, (inspect.DictType, inspect.AnyType)) or _fields(each)]
    else:
        parts = [each for each in parts if isinstance(each, inspect.AnyType) or _items(each) is not None]
    found = [list(_unknown(each, value, path)) for each in parts]
    yield from min(found, key=len, default=())
