"""SQL from files, in the parameter style of whichever driver carries it.

A file holds one statement with parameters written `:name`, and is valid SQL for the default schema (`ensue.` in
PostgreSQL, the prefix `ensue_` in SQLite); another name is put in when it is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import cache, cached_property
from importlib import resources
from typing import Any, TypeAlias, TypeVar

import msgspec

_PARAMETER = re.compile(r"(?<![:\w]):([a-z_]+[0-9]*)")
_COMMENT = re.compile(r"^\s*--.*$\n?", re.MULTILINE)

T = TypeVar("T")
Row = Sequence[Any]
Rows = Sequence[Row]


class Style(Enum):
    """How a driver writes parameters."""

    FORMAT = auto()
    """`%s` once per use: psycopg, psycopg2, Django."""
    DOLLAR = auto()
    """`$1` once per name: asyncpg."""
    NUMBERED = auto()
    """`?1` once per name: sqlite3, aiosqlite."""


@dataclass(frozen=True)
class Query:
    """One SQL statement; `names` are its parameters in the order of their first use."""

    source: str
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(dict.fromkeys(_PARAMETER.findall(self.source))))

    @classmethod
    def verbatim(cls, source: str) -> Query:
        """Return a statement without parameters, whatever colons it holds."""
        query = cls("")
        object.__setattr__(query, "source", source)
        return query

    @cached_property
    def _uses(self) -> tuple[int, ...] | None:
        """Which value each use of a parameter takes; None if it is just one after the other."""
        uses = tuple(self.names.index(name) for name in _PARAMETER.findall(self.source)) if self.names else ()
        return uses if len(uses) > len(self.names) else None

    @cached_property
    def format(self) -> str:
        return self._write(lambda _: "%s", self.source.replace("%", "%%"))

    @cached_property
    def dollar(self) -> str:
        return self._write(lambda number: f"${number}")

    @cached_property
    def numbered(self) -> str:
        return self._write(lambda number: f"?{number}")

    def _write(self, parameter: Callable[[int], str], source: str | None = None) -> str:
        if not self.names:
            return self.source
        return _PARAMETER.sub(lambda found: parameter(self.names.index(found[1]) + 1), source or self.source)

    def text(self, style: Style) -> str:
        """Return the statement as a driver of this style wants it."""
        if style is Style.FORMAT:
            return self.format
        return self.dollar if style is Style.DOLLAR else self.numbered

    def arrange(self, style: Style, values: Row) -> Row:
        """Return the values, given in the order of `names`, as a driver of this style wants them."""
        return self.arrange_format(values) if style is Style.FORMAT else values

    def arrange_format(self, values: Row) -> Row:
        """As `arrange`, for `Style.FORMAT`."""
        return values if self._uses is None else tuple([values[use] for use in self._uses])

    def __call__(self, **values: Any) -> Call:
        """Return the statement with its values, to be yielded by an operation."""
        return Call(self, tuple(values[name] for name in self.names))


class Call(msgspec.Struct, frozen=True, gc=False):
    """A statement and its values; with `many`, `values` is a sequence of rows and nothing comes back."""

    query: Query
    values: Sequence[Any] = ()
    many: bool = False


class Begin(msgspec.Struct, frozen=True):
    """Make sure that a transaction which may write is open, so that what is read now still holds when we write."""


class Observe(msgspec.Struct, frozen=True):
    """Read over another connection: what has been committed, as others see it."""

    call: Call


class Wait(msgspec.Struct, frozen=True):
    """Call something that may take long and is no SQL; in an event loop it is called in a thread."""

    function: Callable[[], Any]


BEGIN = Begin()
Step: TypeAlias = Call | Begin | Observe | Wait
Steps: TypeAlias = Generator[Step, Rows, T]
"""An operation: yields statements, receives their rows, returns its result. It does no I/O of its own."""


def wait(function: Callable[[], T]) -> Steps[T]:
    """Call something that may take long and is no SQL; raise what it raises."""
    found: Any = yield Wait(function)
    answer: T = found
    return answer


class Library:
    """The SQL files of one dialect, with the log's name put in where the files say `ensue`."""

    def __init__(self, package: str, default: str, actual: str) -> None:
        self._package = package
        self._default = re.compile(default)
        self._actual = actual
        self._queries: dict[str, Query] = {}
        self._scripts: dict[str, Mapping[str, Sequence[Query]]] = {}

    def __getitem__(self, name: str) -> Query:
        query = self._queries.get(name)
        if query is None:
            query = self._queries[name] = Query(self._name(_statement(self._package, name)))
        return query

    def __contains__(self, name: str) -> bool:
        return (resources.files(self._package) / "queries" / f"{name}.sql").is_file()

    def compose(self, source: str) -> Query:
        """Return a query made of parts, for a reading whose conditions vary; written like the files."""
        query = self._queries.get(source)
        if query is None:
            query = self._queries[source] = Query(self._name(source))
        return query

    def scripts(self, folder: str) -> Mapping[str, Sequence[Query]]:
        """Return the scripts of a folder by file name, in order; `-- next` separates their statements."""
        found = self._scripts.get(folder)
        if found is None:
            found = self._scripts[folder] = {
                name: tuple(Query.verbatim(self._name(part)) for part in parts)
                for name, parts in _parts(self._package, folder)
            }
        return found

    def _name(self, source: str) -> str:
        return self._default.sub(self._actual, source)


@cache
def _statement(package: str, name: str) -> str:
    """Return a statement as its file has it, without comments; read once, however many logs there are."""
    text = (resources.files(package) / "queries" / f"{name}.sql").read_text("utf-8")
    return _COMMENT.sub("", text).strip().rstrip(";")


@cache
def _parts(package: str, folder: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return the statements of a folder's scripts, likewise."""
    files = sorted(
        (file for file in (resources.files(package) / folder).iterdir() if file.name.endswith(".sql")),
        key=lambda file: file.name,
    )
    return tuple(
        (
            file.name.removesuffix(".sql"),
            tuple(part.strip() for part in re.split(r"^-- next$", file.read_text("utf-8"), flags=re.MULTILINE)),
        )
        for file in files
    )
