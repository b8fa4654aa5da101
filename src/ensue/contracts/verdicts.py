"""Whether one version can be read as another: the compatibility of schema registries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Literal

import msgspec

from ensue.contracts.shapes import (
    Choice,
    Contract,
    Either,
    Limits,
    Many,
    Plain,
    Record,
    Row,
    Shape,
    Table,
    same_tag,
    words,
)

Compatibility = Literal["full", "backward", "forward", "none"]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a newer version means for those who read or write the other one."""

    old: str
    """Its wire type."""
    new: str
    compatibility: Compatibility
    """`backward`: who reads the new one can read the old one; `forward`: the other way round; `full`: both."""
    not_backward: list[str]
    """Why who reads the new version cannot read the old one."""
    not_forward: list[str]
    """Why who reads the old version cannot read the new one."""


def verdict(old: Contract, new: Contract) -> Verdict:
    """Judge a newer version against an older one."""
    backward = list(dict.fromkeys(obstacles(old, new)))
    forward = list(dict.fromkeys(obstacles(new, old)))
    found: Compatibility = "none"
    if not backward:
        found = "backward" if forward else "full"
    elif not forward:
        found = "forward"
    return Verdict(old=old.type, new=new.type, compatibility=found, not_backward=backward, not_forward=forward)


def verdicts(contracts: Sequence[Contract]) -> list[Verdict]:
    """Judge each version of an event against the one before it."""
    return [verdict(old, new) for old, new in pairwise(sorted(contracts, key=lambda each: each.version))]


def obstacles(written: Contract, read: Contract) -> Iterator[str]:
    """Yield why events of one structure cannot be read as another, member by member; nothing if they can."""
    return _Judging(written, read).shapes(written.root, read.root, "")


_TEXT = frozenset(("string", "bytes", "uuid", "decimal", "date-time", "date", "time", "time-local", "duration"))
_WIDER = {
    "integer": {"number", "decimal"},
    "number": {"decimal"},
    **{kind: {"string"} for kind in _TEXT},
}
"""What may be read as what else. A number may be read as a decimal, and all text as text."""


class _Judging:
    def __init__(self, written: Contract, read: Contract, seen: frozenset[tuple[int, int]] = frozenset()) -> None:
        self._written = written
        self._read = read
        self._seen = seen

    def shapes(self, written: Shape, read: Shape, path: str) -> Iterator[str]:
        written, read = self._written.resolve(written), self._read.resolve(read)
        match written, read:
            case _, Plain("any"):
                return
            case Either(options), _:
                for each in options:
                    yield from self.shapes(each, read, path)
            case _, Either(options):
                yield from self._any_of(written, options, path)
            case Plain(), Plain():
                yield from _plain(written, read, path)
            case Choice(values), _:
                yield from self._choice(values, written, read, path)
            case Record(), Record():
                yield from self._records(written, read, path)
            case _:
                yield from self._collections(written, read, path)

    def _collections(self, written: Shape, read: Shape, path: str) -> Iterator[str]:
        match written, read:
            case Many(), Many():
                yield from self.shapes(written.item, read.item, f"{path}[]")
                yield from _limits(written.limits, read.limits, path)
                if read.unique and not written.unique:
                    yield _at(path, "may hold a value twice, and is read as a set")
            case Row(), Many():
                for number, item in enumerate(written.items):
                    yield from self.shapes(item, read.item, f"{path}[{number}]")
                most: Limits = (("maxItems", len(written.items)),) if written.closed else ()
                yield from _limits((*most, ("minItems", written.least)), read.limits, path)
                if read.unique and len(written.items) > 1:
                    yield _at(path, "may hold a value twice, and is read as a set")
            case Row(), Row():
                yield from self._rows(written, read, path)
            case Table(), Table():
                yield from self.shapes(written.key, read.key, f"{path}{{key}}")
                yield from self.shapes(written.value, read.value, f"{path}{{}}")
                yield from _limits(written.limits, read.limits, path)
            case Record(), Table():
                for field in written.fields:
                    yield from self.shapes(field.shape, read.value, f"{path}.{field.name}".lstrip("."))
            case _:
                yield _at(path, f"is {words(written)}, and is read as {words(read)}")

    def _any_of(self, written: Shape, options: tuple[Shape, ...], path: str) -> Iterator[str]:
        told: list[list[str]] = []
        for each in options:
            found = list(_Judging(self._written, self._read, self._seen).shapes(written, each, path))
            if not found:
                return
            told.append(found)
        resolved = [self._read.resolve(each) for each in options]
        alike = [found for found, each in zip(told, resolved, strict=True) if _alike(written, each)]
        if len(alike) == 1:
            yield from alike[0]
        else:
            yield _at(path, f"may be {words(written)}, and is read as {' or '.join(map(words, options))}")

    def _choice(self, values: tuple[Any, ...], written: Choice, read: Shape, path: str) -> Iterator[str]:
        if isinstance(read, Choice):
            if unknown := [each for each in values if not any(_equal(each, one) for one in read.values)]:
                yield _at(path, f"may be {', '.join(map(repr, unknown))}, which its reader does not know")
            return
        kinds = {_KINDS[type(each)] for each in values}
        if not isinstance(read, Plain) or read.limits or any(not _reads(each, read.kind) for each in kinds):
            yield _at(path, f"is {words(written)}, and is read as {words(read)}")

    def _rows(self, written: Row, read: Row, path: str) -> Iterator[str]:
        for number, (one, other) in enumerate(zip(written.items, read.items, strict=False)):
            yield from self.shapes(one, other, f"{path}[{number}]")
        if written.least < read.least:
            yield _at(path, f"may have {written.least} items, and {read.least} are read")
        if read.closed and (not written.closed or len(written.items) > len(read.items)):
            yield _at(path, f"may have more than the {len(read.items)} items that are read")

    def _records(self, written: Record, read: Record, path: str) -> Iterator[str]:
        pair = (id(written), id(read))
        if pair in self._seen:
            return
        self._seen |= {pair}
        for field in read.fields:
            inner, found = f"{path}.{field.name}".lstrip("."), written.field(field.name)
            if found is None:
                if field.required:
                    yield _at(inner, "is not there, and its reader requires it")
                continue
            if field.required and not found.required:
                yield _at(inner, "need not be there, and its reader requires it")
            yield from self.shapes(found.shape, field.shape, inner)
        for field in written.fields if read.closed else ():
            if read.field(field.name) is None:
                yield _at(f"{path}.{field.name}".lstrip("."), "its reader refuses unknown members")


def _alike(written: Shape, read: Shape) -> bool:
    """Tell whether it is clear that one was meant to be read as the other."""
    if isinstance(written, Record) and isinstance(read, Record):
        return written.name == read.name or same_tag(written, read)
    return type(written) is type(read) and not isinstance(written, Plain)


_KINDS: dict[type, str] = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


def _equal(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)


def _plain(written: Plain, read: Plain, path: str) -> Iterator[str]:
    if not _reads(written.kind, read.kind):
        yield _at(path, f"is {words(written)}, and is read as {words(read)}")
    else:
        yield from _limits(written.limits, read.limits, path)


def _reads(written: str, read: str) -> bool:
    return written == read or read in _WIDER.get(written, ())


_LOWER = frozenset(("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"))
_UPPER = frozenset(("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"))


def _limits(written: Limits, read: Limits, path: str) -> Iterator[str]:
    given = dict(written)
    for name, wanted in read:
        has = given.get(name)
        kept = has is not None and (
            has == wanted or (name in _LOWER and has >= wanted) or (name in _UPPER and has <= wanted)
        )
        if not kept:
            yield _at(path, f"has {name} {'not set' if has is None else has}, and its reader wants {wanted}")


def _at(path: str, what: str) -> str:
    return f"{path or 'it'}: {what}"
