"""What differs between two structures of one event, member by member."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from ensue.contracts.shapes import (
    MISSING,
    Choice,
    Contract,
    Either,
    Field,
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


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is not as it was."""

    path: str
    """The member: `address.city`, `lines[]`; empty for the event as a whole."""
    what: str
    """In words, for people."""
    additive: bool = False
    """A member was added that need not be there: readers of the older structure still understand it."""

    def __str__(self) -> str:
        return f"{self.path}: {self.what}" if self.path else self.what


def changes(old: Contract, new: Contract) -> list[Change]:
    """Return what has changed from the old structure to the new one; names of classes and their order do not count."""
    found = list(_Comparing(old, new).shapes(old.root, new.root, ""))
    if old.key != new.key:
        found.insert(0, Change("", f"the key was {_key(old)} and is {_key(new)}"))
    if old.changes != new.changes:
        found.insert(0, Change("", f'changes="{old.changes}" has become changes="{new.changes}"'))
    return found


def _key(contract: Contract) -> str:
    return contract.key or "none"


class _Comparing:
    def __init__(self, old: Contract, new: Contract, seen: frozenset[tuple[int, int]] = frozenset()) -> None:
        self._old = old
        self._new = new
        self._seen = seen

    def shapes(self, old: Shape, new: Shape, path: str) -> Iterator[Change]:
        old, new = self._old.resolve(old), self._new.resolve(new)
        match old, new:
            case Plain(), Plain() if old.kind == new.kind:
                yield from _limits(old.limits, new.limits, path)
            case Choice(), Choice():
                yield from _choices(old, new, path)
            case Many(), Many():
                yield from self._many(old, new, path)
            case Table(), Table():
                yield from self.shapes(old.key, new.key, f"{path}{{key}}")
                yield from self.shapes(old.value, new.value, f"{path}{{}}")
                yield from _limits(old.limits, new.limits, path)
            case Row(), Row():
                yield from self._rows(old, new, path)
            case Record(), Record():
                yield from self._records(old, new, path)
            case (Either(), _) | (_, Either()):
                yield from self._eithers(_options(old), _options(new), path)
            case _:
                yield Change(path, f"was {words(old)}, is {words(new)}")

    def _many(self, old: Many, new: Many, path: str) -> Iterator[Change]:
        yield from self.shapes(old.item, new.item, f"{path}[]")
        yield from _limits(old.limits, new.limits, path)
        if old.unique != new.unique:
            yield Change(path, f"was a {_collection(old)}, is a {_collection(new)}")

    def _rows(self, old: Row, new: Row, path: str) -> Iterator[Change]:
        for number, (was, now) in enumerate(zip_longest(old.items, new.items)):
            if was is None:
                yield Change(f"{path}[{number}]", f"was not there, is {words(now)}")
            elif now is None:
                yield Change(f"{path}[{number}]", f"was {words(was)}, is gone")
            else:
                yield from self.shapes(was, now, f"{path}[{number}]")
        if (old.least, old.closed) != (new.least, new.closed):
            yield Change(path, f"{_size(old)} had to be there, now {_size(new)}")

    def _records(self, old: Record, new: Record, path: str) -> Iterator[Change]:
        pair = (id(old), id(new))
        if pair in self._seen:  # it contains itself
            return
        self._seen |= {pair}
        for was in old.fields:
            inner, now = f"{path}.{was.name}".lstrip("."), new.field(was.name)
            if now is None:
                yield Change(inner, f"was {_described(was)}, is gone")
            else:
                yield from self._fields(was, now, inner)
        for now in new.fields:
            if old.field(now.name) is None:
                additive = not now.required and not old.closed
                yield Change(f"{path}.{now.name}".lstrip("."), f"was not there, is {_described(now)}", additive)
        if old.closed != new.closed:
            yield Change(
                path, "unknown members were " + ("refused, are accepted" if old.closed else "accepted, are refused")
            )

    def _fields(self, old: Field, new: Field, path: str) -> Iterator[Change]:
        yield from self.shapes(old.shape, new.shape, path)
        if old.required != new.required:
            yield Change(path, f"was {_needed(old)}, is {_needed(new)}")
        elif _differ(old.default, new.default):
            yield Change(path, f"its default was {_shown(old.default)}, is {_shown(new.default)}")

    def _eithers(self, old: tuple[Shape, ...], new: tuple[Shape, ...], path: str) -> Iterator[Change]:
        gone, come = list(old), list(new)
        for was in old:
            for now in come:
                if self._same(was, now):
                    gone.remove(was)
                    come.remove(now)
                    break
        for was in tuple(gone):
            for now in tuple(come):
                if self._belong_together(was, now):
                    gone.remove(was)
                    come.remove(now)
                    yield from self.shapes(was, now, path)
                    break
        if gone:
            yield Change(path, f"may no longer be {' or '.join(words(self._old.resolve(each)) for each in gone)}")
        if come:
            yield Change(path, f"may now be {' or '.join(words(self._new.resolve(each)) for each in come)}")

    def _same(self, old: Shape, new: Shape) -> bool:
        return not any(_Comparing(self._old, self._new, self._seen).shapes(old, new, ""))

    def _belong_together(self, old: Shape, new: Shape) -> bool:
        old, new = self._old.resolve(old), self._new.resolve(new)
        if isinstance(old, Record) and isinstance(new, Record):
            return old.name == new.name or same_tag(old, new)
        return type(old) is type(new) and not isinstance(old, Plain)


def _options(shape: Shape) -> tuple[Shape, ...]:
    return shape.options if isinstance(shape, Either) else (shape,)


def _choices(old: Choice, new: Choice, path: str) -> Iterator[Change]:
    was, now = [_typed(each) for each in old.values], [_typed(each) for each in new.values]
    if gone := [value for value, typed in zip(old.values, was, strict=True) if typed not in now]:
        yield Change(path, f"may no longer be {', '.join(map(repr, gone))}")
    if come := [value for value, typed in zip(new.values, now, strict=True) if typed not in was]:
        yield Change(path, f"may now be {', '.join(map(repr, come))}")


def _limits(old: Limits, new: Limits, path: str) -> Iterator[Change]:
    was, now = dict(old), dict(new)
    for name in sorted(was.keys() | now.keys()):
        if was.get(name) != now.get(name):
            yield Change(path, f"{name} was {was.get(name, 'not set')}, is {now.get(name, 'not set')}")


def _typed(value: Any) -> tuple[str, Any]:
    """Tell 1 from True, and 1 from 1.0."""
    return type(value).__name__, value


def _differ(old: Any, new: Any) -> bool:
    return _typed(old) != _typed(new)


def _collection(many: Many) -> str:
    return "set" if many.unique else "list"


def _size(row: Row) -> str:
    return f"{row.least} to {len(row.items)} items" if row.closed else f"{row.least} items or more"


def _described(field: Field) -> str:
    return f"{words(field.shape)} ({_needed(field)})"


def _needed(field: Field) -> str:
    if field.required:
        return "required"
    return "optional" if field.default is MISSING else f"optional, {_shown(field.default)} by default"


def _shown(default: Any) -> str:
    return "none" if default is MISSING else repr(default)
