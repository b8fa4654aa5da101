"""`Personal[…]`: fields that hold what belongs to a person, and is unreadable once that person is forgotten.

Such a field types as what stands in the brackets. In the log it is a token, a text that names the key it is encrypted
with, so that a stored event says by itself what is encrypted in it: no class is needed to find that out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar, get_args, get_origin, get_type_hints
from uuid import UUID

import msgspec
from msgspec import inspect

from ensue.errors import EventDefinitionError, EventValueError
from ensue.events.plain import from_plain, to_plain
from ensue.events.texts import LONGEST, fault_in

T = TypeVar("T")

TOKEN = "ensue.personal.1:"  # noqa: S105 the beginning of what is encrypted, and no secret
_BEGINS = f'"{TOKEN}'
_IN_JSON = re.compile(rf'"{re.escape(TOKEN)}([\w.-]+):([\w+/=-]+)"')
_WHOLE = re.compile(rf"{re.escape(TOKEN)}([\w.-]+):([\w+/=-]+)")
_UNSAID: Any = object()


class Token(msgspec.Struct, frozen=True, gc=False):
    """Something encrypted: with which keys, and what came of it (base64)."""

    keys: tuple[str, ...]
    """The ids of the keys that are all needed to read it: several where it is about several persons."""
    content: str

    def __str__(self) -> str:
        return f"{TOKEN}{'.'.join(self.keys)}:{self.content}"


class _Marker:
    """What is said about a personal field."""

    __slots__ = ("mask", "subject")

    def __init__(self, subject: str | None = None, mask: Any = _UNSAID) -> None:
        self.subject = subject
        self.mask = mask


def personal(*, subject: str | None = None, mask: object = _UNSAID) -> object:
    """Mark a field as `Personal[…]` does, and say more about it: it stands in `Annotated[str, …]`.

    `subject` is the field of the event that says whose it is, if that is not the class's; `mask` the value that is read
    once that person is forgotten, if it is not the empty one of its type.
    """
    return _Marker(subject, mask)


if TYPE_CHECKING:
    Personal = Annotated[T, "personal"]
else:

    class Personal:
        """`email: Personal[str]`: encrypted in the log with the key of the person whom the class's `subject=` names."""

        def __class_getitem__(cls, item: Any) -> Any:
            """Return the type itself, marked."""
            return Annotated[item, _Marker()]


@dataclass(frozen=True, slots=True)
class PersonalField:
    """A personal field of an event class."""

    name: str
    member: str
    """Its name in JSON."""
    subject: str
    """The field that says whose it is; empty in a `PastEvent`, which is only read."""
    subject_member: str
    mask: msgspec.Raw
    """What is read once the person is forgotten, as JSON."""


class Opened(msgspec.Struct, frozen=True, gc=False):
    """An event's JSON with its personal fields in it."""

    data: str
    masked: frozenset[str]
    """The members whose person is forgotten, and that were given their masks."""


class Opener(Protocol):
    """Holds the keys of what was read."""

    def open(self, type: str, id: str, data: str) -> Opened:
        """Return the event with its personal fields in it; raise what keeps one from being read."""
        ...

    def show(self, type: str, id: str, data: str) -> str:
        """Return the event with those of its personal fields in it that can be read, for people."""
        ...

    def seal(self, text: str, context: str, *, like: str) -> str:
        """Encrypt a text that may tell of what is personal in an event, which is given as it is stored."""
        ...


PERSONAL: dict[str, dict[str, PersonalField]] = {}
"""By wire type, of every structure in which its events are stored, by member."""


def declared() -> bool:
    """Tell whether any class that has been imported has personal fields."""
    return bool(PERSONAL)


def is_personal(type: str) -> bool:
    """Tell whether events of a wire type have personal fields, as far as the classes that have been imported know."""
    return type in PERSONAL


def personal_members(type: str) -> Mapping[str, PersonalField]:
    """Return the personal fields of a wire type, in all structures that it has had, by their names in JSON."""
    return PERSONAL.get(type, {})


def personal_types() -> tuple[str, ...]:
    """Return the wire types of the imported classes that have personal fields."""
    return tuple(PERSONAL)


def register(type: str, fields: Iterable[PersonalField], *, today: bool) -> None:
    """Remember the personal fields of a structure; where several have a member, the class of today counts."""
    found, known = {each.member: each for each in fields}, PERSONAL.get(type, {})
    if found:
        PERSONAL[type] = {**known, **found} if today else {**found, **known}


# --- tokens in what is stored

_raw_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def holds_tokens(data: str) -> bool:
    """Tell quickly whether something in a JSON text may be encrypted."""
    return _BEGINS in data


def tokens_in(data: str) -> list[Token]:
    """Return what is encrypted anywhere in a JSON text."""
    return [_token(*found) for found in _IN_JSON.findall(data)]


def token_of(text: str) -> Token | None:
    """Return the token that a text is; None if it is anything else."""
    found = _WHOLE.fullmatch(text) if text.startswith(TOKEN) else None
    return None if found is None else _token(found[1], found[2])


def is_token(data: str, member: str) -> bool:
    """Tell whether a member of an event's JSON is encrypted."""
    value = _raw_members(data).get(member, msgspec.Raw())
    return bytes(value).startswith(_BEGINS.encode())


def _token(keys: str, content: str) -> Token:
    return Token(tuple(keys.split(".")), content)


# --- looking at a class


def personal_fields(cls: type[msgspec.Struct], subject: str | None, *, read_only: bool) -> tuple[PersonalField, ...]:
    """Return the personal fields of an event class; raise `EventDefinitionError` for what cannot be one."""
    hints = get_type_hints(cls, include_extras=True)
    members = dict(zip(cls.__struct_fields__, cls.__struct_encode_fields__, strict=True))
    markers = {name: marker for name in cls.__struct_fields__ if (marker := _marker(hints[name])) is not None}
    where = f"event {cls.__qualname__}"
    for name in cls.__struct_fields__:
        if _inside(hints[name], top=True):
            raise EventDefinitionError(
                f"{where}, field {name!r}: Personal[…] stands around the whole type of a field: Personal[list[str]], "
                "not list[Personal[str]]"
            )
    if subject is not None and subject not in members:
        fields = ", ".join(members) or "none"
        raise EventDefinitionError(f"{where}: subject={subject!r} is not one of its fields ({fields})")
    if subject is not None and not markers:
        raise EventDefinitionError(
            f"{where}: subject={subject!r} says whose its personal fields are, and it has none: email: Personal[str]"
        )
    return tuple(
        _field(cls, name, hints, marker, members, subject, markers, read_only=read_only)
        for name, marker in markers.items()
    )


def _field(
    cls: type[msgspec.Struct],
    name: str,
    hints: Mapping[str, Any],
    marker: _Marker,
    members: Mapping[str, str],
    subject: str | None,
    markers: Mapping[str, _Marker],
    *,
    read_only: bool,
) -> PersonalField:
    where = f"event {cls.__qualname__}, field {name!r}"
    whose = marker.subject or subject
    if whose is None and not read_only:
        raise EventDefinitionError(
            f"{where} is personal: say whose it is: class {cls.__name__}(…, subject='user_id') with the field that "
            "holds the person's id, or Annotated[…, personal(subject='user_id')]"
        )
    if whose is not None and whose not in members:
        raise EventDefinitionError(f"{where}: its subject {whose!r} is not one of the fields ({', '.join(members)})")
    if whose in markers:
        raise EventDefinitionError(
            f"{where}: its subject {whose!r} is personal itself: the id of a person stays readable, it finds the key"
        )
    if getattr(cls, "__key__", None) == name:
        raise EventDefinitionError(
            f"{where} is personal and the key that keeps the order: a key stands readable beside the event. Take an id"
        )
    return PersonalField(
        name, members[name], whose or "", members[whose] if whose else "", _mask(hints[name], marker, where)
    )


def _marker(hint: Any) -> _Marker | None:
    if get_origin(hint) is Annotated:
        return next((each for each in get_args(hint)[1:] if isinstance(each, _Marker)), None)
    return None


def _inside(hint: Any, *, top: bool) -> bool:
    """Tell whether a marker stands deeper in a type than around it."""
    if get_origin(hint) is Annotated and not top and _marker(hint) is not None:
        return True
    rest = get_args(hint)[:1] if get_origin(hint) is Annotated else get_args(hint)
    return any(_inside(each, top=False) for each in rest)


# --- what is read once the person is forgotten


def _mask(hint: Any, marker: _Marker, where: str) -> msgspec.Raw:
    try:
        value = _empty(inspect.type_info(hint)) if marker.mask is _UNSAID else marker.mask
        if value is _UNSAID:
            raise EventDefinitionError(
                f"{where} is personal, and nobody can say what is read once the person is forgotten: give it a mask, "
                "Annotated[…, personal(mask=…)]"
            )
        text = msgspec.json.encode(value, enc_hook=to_plain)
        msgspec.json.decode(text, type=hint, dec_hook=from_plain)
    except (TypeError, ValueError) as error:
        if isinstance(error, EventDefinitionError):
            raise
        raise EventDefinitionError(
            f"{where}: {error}: what is read once the person is forgotten must fit the field: give it another mask, "
            "Annotated[…, personal(mask=…)]"
        ) from error
    return msgspec.Raw(text)


_EMPTY: dict[type[inspect.Type], Any] = {
    inspect.StrType: "",
    inspect.BytesType: "",
    inspect.ByteArrayType: "",
    inspect.IntType: 0,
    inspect.FloatType: 0.0,
    inspect.BoolType: False,
    inspect.DecimalType: "0",
    inspect.DateTimeType: "1970-01-01T00:00:00Z",
    inspect.DateType: "1970-01-01",
    inspect.UUIDType: str(UUID(int=0)),
    inspect.ListType: [],
    inspect.SetType: [],
    inspect.FrozenSetType: [],
    inspect.VarTupleType: [],
    inspect.DictType: {},
    inspect.AnyType: None,
    inspect.NoneType: None,
}


def _empty(info: inspect.Type) -> Any:
    if isinstance(info, inspect.Metadata):
        return _empty(info.type)
    if isinstance(info, inspect.UnionType):
        none = any(isinstance(each, inspect.NoneType) for each in info.types)
        return None if none else _empty(info.types[0])
    return _EMPTY.get(type(info), _UNSAID)


# --- whose it is

_any = msgspec.json.Decoder().decode


def subject_id(where: str, value: bytes | msgspec.Raw | None) -> str:
    """Return the id of a person as text, from what stands in JSON; raise `EventValueError` if there is none."""
    found = None if value is None else _any(value)
    text = "" if found is None else found if isinstance(found, str) else str(found)
    if isinstance(found, (dict, list, bool)) or not text:
        raise EventValueError(f"{where} is {found!r}: nobody can say whose the personal fields are")
    if fault := fault_in(text, LONGEST):
        raise EventValueError(f"{where}, whose the personal fields are, {fault}")
    return text
