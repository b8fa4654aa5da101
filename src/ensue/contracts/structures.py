"""From an event class to its contract."""

from __future__ import annotations

import re
from collections.abc import Iterable
from inspect import cleandoc
from typing import Any, cast

import msgspec
from msgspec import inspect

from ensue.contracts.reading import shape_of_schema, sorted_values
from ensue.contracts.shapes import (
    MISSING,
    Choice,
    Contract,
    Either,
    Field,
    Limits,
    Many,
    Named,
    Plain,
    Record,
    Ref,
    Row,
    Shape,
    Table,
)
from ensue.errors import UnusableContract
from ensue.events import IntegrationEvent

_PLAIN: dict[type[inspect.Type], str] = {
    inspect.AnyType: "any",
    inspect.RawType: "any",
    inspect.NoneType: "null",
    inspect.BoolType: "boolean",
    inspect.IntType: "integer",
    inspect.FloatType: "number",
    inspect.StrType: "string",
    inspect.BytesType: "bytes",
    inspect.ByteArrayType: "bytes",
    inspect.MemoryViewType: "bytes",
    inspect.DateTimeType: "date-time",  # events refuse moments without a time zone
    inspect.DateType: "date",
    inspect.TimeDeltaType: "duration",
    inspect.UUIDType: "uuid",
    inspect.DecimalType: "decimal",
}
_MANY = (inspect.ListType, inspect.SetType, inspect.FrozenSetType, inspect.VarTupleType, inspect.CollectionType)
_EMPTY: dict[Any, Any] = {list: [], dict: {}, set: [], tuple: [], frozenset: []}


def contract_of(event: type[IntegrationEvent], service: str | None = None) -> Contract:
    """Return the contract that an event class is, of a service if the class names none.

    Raises `UnusableContract` for what JSON Schema cannot say, and `EventDefinitionError` for a type that is nowhere.
    """
    event.__structure__.decoding()
    info = inspect.type_info(event)
    drawing = _Drawing(event)
    root = drawing.record(cast("inspect.StructType", info), event.__name__)
    name = event.__type__.removesuffix(f".v{event.__version__}")
    key = None if event.__key__ is None else _encoded(event, event.__key__)
    return Contract(
        name=name,
        version=event.__version__ or 0,
        key=key,
        changes=event.__changes__,
        service=event.__service__ or service,
        root=root,
        definitions=drawing.definitions,
    )


def _encoded(event: type[IntegrationEvent], field: str) -> str:
    return dict(zip(event.__struct_fields__, event.__struct_encode_fields__, strict=True))[field]


class _Drawing:
    """Shapes of one event's types; what has a name is drawn once."""

    def __init__(self, event: type[IntegrationEvent]) -> None:
        self._event = event
        self._names: dict[Any, str] = {event: event.__name__}
        self.definitions: dict[str, Named] = {}

    def shape(self, info: inspect.Type) -> Shape:
        plain = _PLAIN.get(type(info))
        if plain is not None:
            return Plain(plain, _limits(info, "Length"))
        match info:
            case inspect.Metadata():
                return self.shape(info.type)
            case inspect.TimeType():
                return Plain("time" if info.tz else "time-local")
            case inspect.LiteralType():
                return Choice(sorted_values(info.values))
            case inspect.TupleType():
                items = tuple(map(self.shape, info.item_types))
                return Row(items, len(items), defaults=(MISSING,) * len(items))
            case inspect.DictType():
                return Table(self.shape(info.value_type), self.shape(info.key_type), _limits(info, "Properties"))
            case inspect.UnionType():
                return self._either(info)
            case inspect.CustomType():
                return self._foreign(info.cls)
            case _:
                return self._many(info) if isinstance(info, _MANY) else self._named(info)

    def _many(self, info: Any) -> Many:
        unique = isinstance(info, (inspect.SetType, inspect.FrozenSetType))
        return Many(self.shape(info.item_type), unique, _limits(info, "Items"))

    def _named(self, info: Any) -> Ref:
        """Draw what has a name, once."""
        cls: Any = getattr(info, "cls", None)
        if cls not in self._names:
            name = self._free(re.sub(r"\W+", "_", _name(cls)).strip("_") or "Unnamed")
            self._names[cls] = name
            self.definitions[name] = Record(name, ())  # it may contain itself
            self.definitions[name] = self._inside(info, name)
        return Ref(self._names[cls])

    def _inside(self, info: inspect.Type, name: str) -> Named:
        match info:
            case inspect.EnumType():
                return Choice(sorted_values(each.value for each in info.cls), name)
            case inspect.StructType() if info.array_like:
                return self._row(info, name, closed=info.forbid_unknown_fields)
            case inspect.NamedTupleType():
                return self._row(info, name, closed=True)
            case inspect.StructType() | inspect.DataclassType() | inspect.TypedDictType():
                return self.record(info, name)
            case _:
                raise UnusableContract(
                    f"event {self._event.__qualname__}: JSON Schema has no word for "
                    f"{type(info).__name__.removesuffix('Type')}"
                )

    def record(self, info: inspect.StructType | inspect.DataclassType | inspect.TypedDictType, name: str) -> Record:
        fields = [self._field(each) for each in info.fields]
        closed = False
        if isinstance(info, inspect.StructType):
            closed = info.forbid_unknown_fields
            if info.tag_field is not None:
                fields.insert(0, Field(info.tag_field, Choice((info.tag,))))
        return Record(name, tuple(fields), closed, _about(info.cls))

    def _field(self, field: inspect.Field) -> Field:
        more: dict[str, Any] = getattr(field.type, "extra_json_schema", None) or {}
        return Field(
            field.encode_name, self.shape(field.type), field.required, _default(field), more.get("description")
        )

    def _row(self, info: inspect.StructType | inspect.NamedTupleType, name: str, *, closed: bool) -> Row:
        items = [self.shape(each.type) for each in info.fields]
        defaults = [_default(each) for each in info.fields]
        least = sum(each.required for each in info.fields)
        if isinstance(info, inspect.StructType) and info.tag_field is not None:
            items.insert(0, Choice((info.tag,)))
            defaults.insert(0, MISSING)
            least += 1
        return Row(tuple(items), least, closed, name, tuple(defaults))

    def _either(self, info: inspect.UnionType) -> Either:
        options = tuple(dict.fromkeys(map(self.shape, info.types)))
        tags = {
            each.tag_field
            for each in map(_bare, info.types)
            if isinstance(each, inspect.StructType) and not each.array_like
        }
        tag = tags.pop() if len(tags) == 1 else None
        several = sum(isinstance(each, Ref) and isinstance(self.definitions.get(each.name), Record) for each in options)
        return Either(options, tag if several > 1 else None)

    def _free(self, name: str) -> str:
        """Return the name, or, where another class has it already, one with a number."""
        taken, number, free = set(self._names.values()), 1, name
        while free in taken:
            number += 1
            free = f"{name}{number}"
        return free

    def _foreign(self, cls: Any) -> Shape:
        """Draw a pydantic model, by the schema that it gives of itself."""
        if not hasattr(cls, "model_json_schema"):
            raise UnusableContract(f"event {self._event.__qualname__}: {_name(cls)} gives no JSON Schema of itself")
        if cls in self._names:
            return Ref(self._names[cls])
        self._names[cls] = self._free(_name(cls))
        schema: dict[str, Any] = cls.model_json_schema(by_alias=False)
        shape, definitions = shape_of_schema(schema, f"event {self._event.__qualname__}", self._names[cls])
        self.definitions.update(definitions)
        if not isinstance(shape, Record):
            return shape
        self.definitions[self._names[cls]] = shape
        return Ref(self._names[cls])


def _bare(info: inspect.Type) -> inspect.Type:
    while isinstance(info, inspect.Metadata):
        info = info.type
    return info


def _name(cls: Any) -> str:
    """Return a class's name; of a generic one with what it is made of."""
    name = str(getattr(cls, "__name__", cls))
    arguments = map(_name, getattr(cls, "__args__", ()))
    return name + "".join(each[:1].upper() + each[1:] for each in arguments)


def _about(cls: Any) -> str | None:
    text = getattr(cls, "__doc__", None)
    if not text or text.startswith(f"{getattr(cls, '__name__', '')}("):  # a dataclass without a docstring
        return None
    return cleandoc(text)


def _default(field: inspect.Field) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return _EMPTY.get(field.default_factory, MISSING)
    if field.default is msgspec.NODEFAULT or field.default is msgspec.UNSET:
        return MISSING
    return msgspec.json.decode(msgspec.json.encode(field.default, enc_hook=_plain))


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json")


_LIMITS = {
    "gt": "exclusiveMinimum",
    "ge": "minimum",
    "lt": "exclusiveMaximum",
    "le": "maximum",
    "multiple_of": "multipleOf",
    "pattern": "pattern",
}


def _limits(info: inspect.Type, counted: str) -> Limits:
    names: Iterable[tuple[str, str]] = (
        *_LIMITS.items(),
        ("min_length", f"min{counted}"),
        ("max_length", f"max{counted}"),
    )
    found = {name: value for attribute, name in names if (value := getattr(info, attribute, None)) is not None}
    if _PLAIN.get(type(info)) == "bytes":  # counted in letters of base64
        found = {name: 4 * -(-value // 3) for name, value in found.items()}
    return tuple(sorted(found.items()))
