"""What an event class is made of: checked when it is defined, used to encode, decode and check its events."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import fields as dataclass_fields
from dataclasses import is_dataclass
from datetime import datetime
from math import isfinite
from typing import Any, cast, get_type_hints

import msgspec
from msgspec import inspect

from ensue.errors import EventDefinitionError, EventValueError
from ensue.events.personal import PersonalField, personal_fields, register
from ensue.events.plain import from_plain, to_plain

_ALTERED = {inspect.DateTimeType, inspect.AnyType, inspect.CustomType}
_ALTERED_TOGETHER = {inspect.FloatType, inspect.NoneType}  # NaN becomes null, which a float alone does not accept
_MOMENT = {inspect.DateTimeType, inspect.NoneType, inspect.UnionType}
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")  # escaped, and the backslash not itself escaped


_encode = msgspec.json.Encoder(enc_hook=to_plain).encode


class Structure:
    """Encodes and decodes the events of one class.

    The annotations are looked at on first need, so that a class may name another that is defined below it.
    """

    def __init__(self, cls: type[msgspec.Struct]) -> None:
        self._cls = cls
        self._decoder: msgspec.json.Decoder[Any] | None = None
        self._watched: tuple[str, ...] = ()
        """The fields that may hold what JSON would alter in silence."""
        self._moments: tuple[str, ...] = ()
        """Of these, those that are a datetime or None: looked at directly."""
        self.personal: tuple[PersonalField, ...] = ()
        with suppress(NameError):  # a forward reference: resolved when the first event is encoded or decoded
            self._resolve()

    def encode(self, event: msgspec.Struct) -> bytes:
        """Return the event as JSON; raise `EventValueError` if it could not be read back as it is."""
        decoder = self._decoder or self._settle()
        try:
            data = _encode(event)
            decoder.decode(data)
        except (TypeError, ValueError, RecursionError) as error:
            raise EventValueError(self._explain(event, error)) from error
        for field in self._moments:
            moment = getattr(event, field)
            if moment is not None and moment.tzinfo is None:
                raise EventValueError(self._find_altered(event, (field,)) or field)
        if self._watched and (found := self._find_altered(event, self._watched)):
            raise EventValueError(found)
        if b"\\u0000" in data and _NUL.search(data):
            raise EventValueError(
                f"{self._cls.__qualname__} holds a NUL character, which PostgreSQL cannot store: remove it"
            )
        return data

    def decode(self, data: str | bytes) -> Any:
        """Return the event that the JSON describes; raise msgspec's errors when it does not fit."""
        return self.decoding()(data)

    def decoding(self) -> Callable[[str | bytes], Any]:
        """Return what `decode` calls, for those who decode many: nothing stands between it and msgspec."""
        return (self._decoder or self._settle()).decode

    def look(self) -> None:
        """Look at the annotations now, if they can be resolved by now."""
        if self._decoder is None:
            with suppress(NameError):
                self._resolve()

    def _settle(self) -> msgspec.json.Decoder[Any]:
        try:
            return self._resolve()
        except NameError as error:
            raise EventDefinitionError(
                f"event {self._cls.__qualname__}: {error}: define or import that type in the event's module"
            ) from error

    def _resolve(self) -> msgspec.json.Decoder[Any]:
        watched: list[str] = []
        moments: list[str] = []
        try:
            info = inspect.type_info(self._cls)
        except TypeError as error:
            raise EventDefinitionError(f"event {self._cls.__qualname__}{self._culprit()}: {error}") from error
        if not isinstance(info, inspect.StructType):  # pragma: no cover: type_info of a Struct is a StructType
            raise EventDefinitionError(f"event {self._cls.__qualname__} is not a structure")
        for field in info.fields:
            kinds: set[type] = set()
            for part in parts(field.type, set()):
                kinds.add(type(part))
                if isinstance(part, inspect.CustomType) and not hasattr(part.cls, "model_validate"):
                    raise EventDefinitionError(
                        f"event {self._cls.__qualname__}, field {field.name!r}: "
                        f"{getattr(part.cls, '__qualname__', part.cls)} cannot be encoded as JSON; use the types that "
                        "msgspec knows (numbers, str, UUID, Decimal, datetime, enums, structs, dataclasses, "
                        "collections, unions) or a pydantic model"
                    )
            if inspect.DateTimeType in kinds and kinds <= _MOMENT:
                moments.append(field.name)
            elif kinds & _ALTERED or kinds >= _ALTERED_TOGETHER:
                watched.append(field.name)
        try:
            self._decoder = msgspec.json.Decoder(self._cls, dec_hook=from_plain)
        except TypeError as error:
            raise EventDefinitionError(f"event {self._cls.__qualname__}: {error}") from error
        self._watched, self._moments = tuple(watched), tuple(moments)
        today = hasattr(self._cls, "__kind__")
        self.personal = personal_fields(self._cls, getattr(self._cls, "__subject__", None), read_only=not today)
        register(getattr(self._cls, "__type__", ""), self.personal, today=today)
        return self._decoder

    def _culprit(self) -> str:
        hints = get_type_hints(self._cls, include_extras=True)
        for name in self._cls.__struct_fields__:
            try:
                inspect.type_info(hints[name])
            except TypeError:
                return f", field {name!r}"
        return ""

    def _find_altered(self, event: msgspec.Struct, fields: tuple[str, ...]) -> str | None:
        for field in fields:
            for path, value, wrong in _altered(getattr(event, field), field):
                return f"{self._cls.__qualname__}.{path} is {value!r}, {wrong}"
        return None

    def _explain(self, event: msgspec.Struct, error: Exception) -> str:
        """Name the class and the field: msgspec's own message names the path only when it decodes."""
        if not isinstance(error, RecursionError) and (found := self._find_altered(event, self._cls.__struct_fields__)):
            return found
        if isinstance(error, msgspec.ValidationError):
            return f"{self._cls.__qualname__} does not fit its own annotations: {error}"
        for field in self._cls.__struct_fields__:
            try:
                _encode(getattr(event, field))
            except Exception:  # noqa: BLE001 any failure marks the field, the cause is chained
                return f"{self._cls.__qualname__}.{field} cannot be encoded: {error}"
        return f"{self._cls.__qualname__} cannot be encoded: {error}"


def parts(node: Any, seen: set[int]) -> Iterator[inspect.Type]:
    """Yield every type that a field's type is made of, each once."""
    if isinstance(node, (tuple, list)):
        for item in cast("Iterable[object]", node):
            yield from parts(item, seen)
    elif isinstance(node, inspect.Field):
        yield from parts(node.type, seen)
    elif isinstance(node, inspect.Type) and id(node) not in seen:
        seen.add(id(node))
        yield node
        for name in node.__struct_fields__:
            yield from parts(getattr(node, name), seen)


def _altered(value: Any, path: str) -> Iterator[tuple[str, Any, str]]:
    """Yield what would be read back as something else: where it is, and what is wrong with it."""
    if isinstance(value, datetime) and value.tzinfo is None:
        yield path, value, "which has no time zone: make it aware, for example datetime.now(UTC)"
    elif isinstance(value, float) and not isfinite(value):
        yield path, value, "which JSON cannot say: only finite numbers can be recorded"
    for step, inner in _inside(value):
        yield from _altered(inner, path + step)


def _inside(value: Any) -> Iterable[tuple[str, Any]]:
    """Return the values that a value holds, each with the step that leads to it."""
    if isinstance(value, msgspec.Struct):
        return [(f".{name}", getattr(value, name)) for name in value.__struct_fields__]
    if is_dataclass(value):
        return [(f".{field.name}", getattr(value, field.name)) for field in dataclass_fields(value)]
    if hasattr(value, "model_fields_set"):
        return [(f".{name}", inner) for name, inner in value]
    if isinstance(value, Mapping):
        return [(f"[{name!r}]", each) for name, inner in cast("Any", value).items() for each in (name, inner)]
    if isinstance(value, (list, tuple, set, frozenset)):
        return [(f"[{index}]", inner) for index, inner in enumerate(cast("Any", value))]
    return ()
