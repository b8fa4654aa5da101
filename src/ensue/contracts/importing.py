"""From contract files to the source of typed event classes, for a reader that shares no code with the publisher."""

from __future__ import annotations

import keyword
import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from ensue.contracts.literals import Literals
from ensue.contracts.schemas import as_text, schema_of
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
    parts,
    words,
)
from ensue.errors import UnusableContract

_PLAIN = {
    "any": "Any",
    "null": "None",
    "boolean": "bool",
    "integer": "int",
    "number": "float",
    "string": "str",
    "bytes": "bytes",
    "uuid": "UUID",
    "decimal": "Decimal",
    "date-time": "dt.datetime",
    "date": "dt.date",
    "time": "Annotated[dt.time, msgspec.Meta(tz=True)]",
    "time-local": "dt.time",
    "duration": "dt.timedelta",
}
_AS_TEXT = frozenset(("string", "bytes", "uuid", "decimal", "date-time", "date", "time", "time-local", "duration"))
_LIMITS = {
    "exclusiveMinimum": "gt",
    "minimum": "ge",
    "exclusiveMaximum": "lt",
    "maximum": "le",
    "multipleOf": "multiple_of",
    "pattern": "pattern",
    "minLength": "min_length",
    "maxLength": "max_length",
    "minItems": "min_length",
    "maxItems": "max_length",
    "minProperties": "min_length",
    "maxProperties": "max_length",
}
_USED = (
    (
        "Annotated",
        "Any",
        "Decimal",
        "Enum",
        "IntEnum",
        "IntegrationEvent",
        "Literal",
        "NamedTuple",
        "PastEvent",
        "UUID",
    ),
    ("bool", "bytes", "dict", "dt", "float", "frozenset", "int", "msgspec", "str", "tuple"),
)
_RESERVED = frozenset((*keyword.kwlist, *_USED[0], *_USED[1]))
_WIDTH = 88
_LONGEST = 110
"""Columns of a docstring in one line."""


def module_source(contracts: Sequence[Contract], *, past: bool = False) -> str:
    """Return the source of a module with a class for each contract.

    With `past`, the older versions of an event become structures of the past, from which `@upcast` leads to the newest
    one. Raises `UnusableContract` for what a class cannot express.
    """
    newest = {each.name: max(one.version for one in contracts if one.name == each.name) for each in contracts}
    taken = _Names()
    classes: dict[str, str] = {}
    for contract in sorted(contracts, key=lambda each: (each.name, -each.version)):
        writing = _Classes(contract, taken)
        classes.update(writing.definitions())
        is_past = past and contract.version < newest[contract.name]
        classes[writing.root] = writing.event(is_past)
    body = "\n\n\n".join(classes.values())
    return f"{_header(contracts)}\n\n{_imports(body)}\n\n\n{body}\n"


def _header(contracts: Sequence[Contract]) -> str:
    services = sorted({each.service for each in contracts if each.service is not None})
    whose = f" of {', '.join(services)}" if services else ""
    about, again = f"Integration events{whose}", "by `ensue contracts import`: make it again instead of changing it."
    line = f'"""{about}, made {again}"""'
    if len(line) > _LONGEST:
        lines = textwrap.fill(f"{about}.", _WIDTH, initial_indent='"""', break_long_words=False, break_on_hyphens=False)
        line = f'{lines}\n\nMade {again}\n"""'
    return f"{line}\n\nfrom __future__ import annotations"


def _imports(body: str) -> str:
    def names(*of: str) -> str:
        return ", ".join(name for name in of if re.search(rf"\b{name}\b", body))

    lines = ["import datetime as dt"] if re.search(r"\bdt\.", body) else []
    for module, found in (
        ("decimal", names("Decimal")),
        ("enum", names("Enum", "IntEnum")),
        ("typing", names("Annotated", "Any", "Literal", "NamedTuple")),
        ("uuid", names("UUID")),
    ):
        lines += [f"from {module} import {found}"] if found else []
    lines += ["", "import msgspec"] if "msgspec." in body else [""]
    return "\n".join((*lines, f"from ensue import {names('IntegrationEvent', 'PastEvent')}")).lstrip("\n")


class _Names:
    """The names of a module's classes; what is made alike shares one."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._found: dict[tuple[str, str], str] = {}

    def take(self, wanted: str, instead: str, content: str) -> str:
        found = self._found.get((wanted, content))
        if found is None:
            names = (wanted, instead, *(f"{instead}{number}" for number in range(2, 1000)))
            found = next(each for each in names if each not in self._taken and each not in _RESERVED)
            self._taken.add(found)
            self._found[wanted, content] = found
        return found


class _Classes:
    """The classes of one contract."""

    def __init__(self, contract: Contract, names: _Names) -> None:
        self._contract = contract
        self._tags = dict(_tags(contract))
        suffix = f"V{contract.version}"
        root = _identifier(contract.root.name)
        self.root = names.take(root, root + suffix, f"{contract.type}\n{as_text(schema_of(contract))}")
        self._names = {
            name: names.take(_identifier(name), f"{_identifier(name)}Of{self.root}", self._content(name))
            for name in contract.definitions
        }
        self._literals = Literals(contract, self._class_name, self.attributes)

    def definitions(self) -> Iterator[tuple[str, str]]:
        """Yield the classes that the event is made of, by name, what is used before what uses it."""
        done: set[str] = set()

        def visit(shape: Shape) -> Iterator[tuple[str, str]]:
            if isinstance(shape, Ref):
                if shape.name in done or shape.name == self._contract.root.name:
                    return
                done.add(shape.name)
                named = self._contract.definitions[shape.name]
                for part in parts(named):
                    yield from visit(part)
                yield self._names[shape.name], self._definition(shape.name, named)
            else:
                for part in parts(shape):
                    yield from visit(part)

        yield from visit(self._contract.root)

    def event(self, past: bool) -> str:
        """Return the class of the event itself."""
        contract = self._contract
        attributes = self.attributes(contract.root)
        if past:
            bases = ["PastEvent", f"name={_quoted(contract.type)}"]
        else:
            bases = ["IntegrationEvent", f"version={contract.version}"]
            if contract.name != self.root:
                bases.append(f"name={_quoted(contract.name)}")
            if contract.key is not None:
                bases.append(f"key={_quoted(attributes[contract.key])}")
            if contract.changes != "none":
                bases.append(f"changes={_quoted(contract.changes)}")
            if contract.service is not None:
                bases.append(f"service={_quoted(contract.service)}")
        if contract.root.closed:
            bases.append("forbid_unknown_fields=True")
        return _class(self.root, bases, contract.root.about, self._fields(contract.root))

    def attributes(self, record: Record) -> dict[str, str]:
        """Return what the members of a record are called in Python."""
        found: dict[str, str] = {}
        for each in record.fields:
            name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", each.name)
            name = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_").lower() or "member"
            if name[0].isdigit():
                name = f"member_{name}"
            if name in _RESERVED or name in self._names.values():
                name += "_"
            while name in found.values():
                name += "_"
            found[each.name] = name
        return found

    # --- classes

    def _definition(self, name: str, named: Named) -> str:
        cls = self._names[name]
        match named:
            case Choice():
                return self._enum(cls, named)
            case Row():
                return self._row(cls, named)
            case Record():
                bases = ["msgspec.Struct", "frozen=True", "kw_only=True"]
                if (tag := self._tags.get(name)) is not None:
                    field = named.field(tag)
                    value = field.shape.values[0] if field is not None and isinstance(field.shape, Choice) else None
                    bases += [f"tag_field={_quoted(tag)}", f"tag={_python(value)}"]
                if named.closed:
                    bases.append("forbid_unknown_fields=True")
                return _class(cls, bases, named.about, self._fields(named, without=tag))

    def _enum(self, cls: str, choice: Choice) -> str:
        if all(isinstance(each, str) for each in choice.values):
            base = "Enum"
        elif all(type(each) is int for each in choice.values):
            base = "IntEnum"
        else:
            raise self._unusable(f"{cls} is one of {words(choice)}: an enum is all text or all integers")
        lines = [f"{name} = {_python(value)}" for value, name in self._literals.members(choice).items()]
        return _class(cls, [base], None, lines)

    def _row(self, cls: str, row: Row) -> str:
        base = ["NamedTuple"] if row.closed else ["msgspec.Struct", "frozen=True", "array_like=True"]
        lines: list[str] = []
        for number, (item, default) in enumerate(zip(row.items, row.defaults, strict=True), 1):
            value = "" if default is MISSING else f" = {self._literals.of(item, default)}"
            lines.append(f"item_{number}: {self._hint(item)}{value}")
        return _class(cls, base, None, lines)

    def _fields(self, record: Record, without: str | None = None) -> list[str]:
        attributes = self.attributes(record)
        return [self._field(each, attributes[each.name]) for each in record.fields if each.name != without]

    def _field(self, field: Field, attribute: str) -> str:
        hint = self._hint(field.shape)
        given: list[str] = []
        if not field.required and field.default is MISSING:
            hint += " | msgspec.UnsetType"
            given.append("default=msgspec.UNSET")
        elif not field.required:
            given.append(self._default(field))
        if attribute != field.name:
            given.append(f"name={_quoted(field.name)}")
        if field.about is not None:
            hint = _annotated(hint, f"description={_quoted(field.about)}")
        if not given:
            return f"{attribute}: {hint}"
        plain = len(given) == 1 and given[0].startswith("default=")
        value = given[0].removeprefix("default=") if plain else f"msgspec.field({', '.join(given)})"
        return f"{attribute}: {hint} = {value}"

    def _default(self, field: Field) -> str:
        if field.default in ({}, []) and isinstance(self._contract.resolve(field.shape), (Table, Plain)):
            return f"default_factory={type(field.default).__name__}"
        value = self._literals.of(field.shape, field.default)
        return f"default_factory=lambda: {value}" if value.startswith(("{", "[")) else f"default={value}"

    # --- annotations

    def _hint(self, shape: Shape) -> str:
        match shape:
            case Plain(kind, limits):
                return self._limited(_PLAIN[kind], limits, kind)
            case Choice(values):
                if any(isinstance(each, (bool, float)) for each in values):
                    raise self._unusable(f"one of {words(shape)} cannot be annotated: only text, integers and null can")
                return f"Literal[{', '.join(map(_python, values))}]"
            case Many(item, unique, limits):
                hint = f"frozenset[{self._hint(item)}]" if unique else f"tuple[{self._hint(item)}, ...]"
                return self._limited(hint, limits)
            case Row(items, least, closed):
                if not closed or least < len(items):
                    raise self._unusable(f"{words(shape)} may have fewer or more items, and has no name")
                return f"tuple[{', '.join(map(self._hint, items)) or '()'}]"
            case Table(value, key, limits):
                return self._limited(f"dict[{self._hint(key)}, {self._hint(value)}]", limits)
            case Either():
                return self._either(shape)
            case Ref(name):
                return self._class_name(name)
            case Record():
                raise self._unusable(f"{shape.name} stands in place; let it stand in $defs")

    def _either(self, either: Either) -> str:
        resolved = [self._contract.resolve(each) for each in either.options]
        texts = [each for each in resolved if isinstance(each, Plain) and each.kind in _AS_TEXT]
        if len(texts) > 1:
            raise self._unusable(f"{words(either)} cannot be told apart: all are text")
        if either.tag is None and sum(isinstance(each, Record) for each in resolved) > 1:
            raise self._unusable(f"{words(either)} cannot be told apart: they have no tag")
        hints = dict.fromkeys(map(self._hint, either.options))
        if "Any" in hints:
            return "Any"
        return " | ".join(sorted(hints, key=lambda hint: hint == "None"))

    def _limited(self, hint: str, limits: Limits, kind: str | None = None) -> str:
        for name, limit in limits:
            value = limit
            if kind == "bytes" and name in ("minLength", "maxLength"):  # counted in letters of base64
                value = limit // 4 * 3 - (2 if name == "minLength" else 0)
            hint = _annotated(hint, f"{_LIMITS[name]}={_python(value)}")
        return hint

    # --- names

    def _class_name(self, name: str) -> str:
        return self.root if name == self._contract.root.name else self._names[name]

    def _content(self, name: str) -> str:
        """Return what a named shape is, with all that it is made of, to be compared with others."""
        inside: dict[str, str] = {}

        def visit(shape: Shape) -> None:
            if isinstance(shape, Ref) and shape.name not in inside and shape.name in self._contract.definitions:
                named = self._contract.definitions[shape.name]
                inside[shape.name] = f"{named!r}{self._tags.get(shape.name)}"
                visit(named)
            for part in parts(shape):
                visit(part)

        visit(Ref(name))
        return repr(inside)

    def _unusable(self, what: str) -> UnusableContract:
        return UnusableContract(f"{self._contract.type}: {what}")


# --- pieces


def _tags(contract: Contract) -> Iterator[tuple[str, str]]:
    """Yield the records that are told apart by a member, and the member."""

    def visit(shape: Shape) -> Iterator[tuple[str, str]]:
        if isinstance(shape, Either) and shape.tag is not None:
            for each in shape.options:
                if isinstance(each, Ref) and isinstance(contract.resolve(each), Record):
                    yield each.name, shape.tag
        for part in parts(shape):
            yield from visit(part)

    for shape in (contract.root, *contract.definitions.values()):
        yield from visit(shape)


def _identifier(name: str) -> str:
    found = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_") or "Unnamed"
    return f"_{found}" if found[0].isdigit() else found


def _annotated(hint: str, meta: str) -> str:
    if hint.startswith("Annotated[") and hint.endswith(")]"):
        return f"{hint[:-2]}, {meta})]"
    return f"Annotated[{hint}, msgspec.Meta({meta})]"


def _class(name: str, bases: list[str], about: str | None, lines: list[str]) -> str:
    header = f"class {name}({', '.join(bases)}):"
    if len(header) > _WIDTH:
        header = "\n".join((f"class {name}(", *(f"    {each}," for each in bases), "):"))
    inside = [] if about is None else [*_docstring(about), *([""] if lines else [])]
    return "\n".join((header, *(f"    {line}".rstrip() for line in (*inside, *(lines or ([] if about else ["pass"]))))))


def _docstring(text: str) -> list[str]:
    text = text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    if text.endswith('"'):
        text = text[:-1] + '\\"'
    lines = text.splitlines()
    return [f'"""{text}"""'] if len(lines) == 1 else [f'"""{lines[0]}', *lines[1:], '"""']


def _quoted(text: str) -> str:
    return _python(text)


def _python(value: Any) -> str:
    """Write a value as Python does, with double quotes."""
    if isinstance(value, str) and "'" not in value and '"' not in value:
        return f'"{repr(value)[1:-1]}"'
    return repr(value)
