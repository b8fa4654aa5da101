"""Reading the log: by position, time, stream, type, key and correlation id."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from ensue.errors import EnsueError
from ensue.events import Recorded
from ensue.log.dialect import Dialect, NotUtf8
from ensue.log.postgres import Postgres
from ensue.log.statements import Call, Row, Steps

_COLUMNS = "position, id, type, kind, stream, version, key, data, metadata, correlation_id, causation_id, recorded_at"
_COLUMNS_POSTGRES = (
    "position, id::text, type, kind, stream, version, key, data::text, metadata::text, correlation_id, causation_id, "
    "cast(to_json(recorded_at) as text)"
)
_NUMBERS = ("position", "version")
_BYTES = ", ".join(name if name in _NUMBERS else f"cast({name} as blob)" for name in _COLUMNS.split(", "))
"""The columns of SQLite where a text in one of them is not UTF-8."""
_STREAM, _KEY = (_COLUMNS.split(", ").index(name) for name in ("stream", "key"))
_ILLEGIBLE = "not UTF-8: "


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which events to read; conditions are joined by `and`."""

    after: int = 0
    """Positions above this one."""
    until: int | None = None
    """Positions up to and including this one."""
    since: datetime | None = None
    """Recorded at this moment or later."""
    before: datetime | None = None
    """Recorded before this moment."""
    types: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    stream: str | None = None
    key: str | None = None
    """Events of which this is the key, declared or by their stream."""
    correlation_id: str | None = None
    id: str | None = None
    contains: str | None = None
    """A part of the contents as they are stored, in any case; no index finds it."""
    edited: str | None = None
    """What is read in place of what the one event holds, as a person has edited it."""

    def __post_init__(self) -> None:
        for moment in (self.since, self.before):
            if moment is not None:
                check_moment(moment)


def check_moment(moment: datetime) -> None:
    """Raise `EnsueError` for a moment without a time zone."""
    if moment.tzinfo is None:
        raise EnsueError(f"{moment!r} has no time zone: make it aware, for example datetime.now(UTC)")


def iso(moment: datetime) -> str:
    """Write a moment as the log does, so that text order is time order."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def read_batch(
    dialect: Dialect, selection: Selection, limit: int, *, latest: bool = False
) -> Steps[list[Recorded[Any]]]:
    """Read the first events of a selection in position order, or the latest, the last first; as they are stored."""
    try:
        rows = yield _call(dialect, selection, limit, latest=latest)
    except NotUtf8:
        rows = [_legible_row(row) for row in (yield _call(dialect, selection, limit, _BYTES, latest=latest))]
    return [Recorded(*row) for row in rows]


def _legible_row(row: Row) -> Row:
    """Return a row of bytes as text. Nobody can ask for a key or stream that is not UTF-8: it counts as none."""
    texts = [legible(each) if isinstance(each, bytes) else each for each in row]
    for column in (_STREAM, _KEY):
        if row[column] is not None and str(texts[column]).encode() != row[column]:
            texts[column] = None
    return texts


def legible(stored: str | bytes | None) -> str | None:
    """Return what is stored as text; what is not UTF-8 is made legible, and no JSON."""
    if not isinstance(stored, bytes):
        return stored
    try:
        return stored.decode()
    except UnicodeDecodeError:
        return _ILLEGIBLE + stored.decode("utf-8", "backslashreplace")


def _call(dialect: Dialect, selection: Selection, limit: int, columns: str = _COLUMNS, *, latest: bool = False) -> Call:
    postgres = isinstance(dialect, Postgres)
    moment = "cast(cast(:{} as text) as timestamptz)" if postgres else ":{}"
    conditions = ["position > :after"]
    values: list[Any] = [selection.after]

    def add(condition: str, *given: Any) -> None:
        conditions.append(condition)
        values.extend(given)

    if selection.until is not None:
        add("position <= :until", selection.until)
    if selection.since is not None:
        add(f"recorded_at >= {moment.format('since')}", iso(selection.since))
    if selection.before is not None:
        add(f"recorded_at < {moment.format('before')}", iso(selection.before))
    if selection.types:
        names = [f":type{number}" for number in range(len(selection.types))]
        add(f"type in ({', '.join(names)})", *selection.types)
    if selection.kinds:
        names = [f":kind{number}" for number in range(len(selection.kinds))]
        add(f"kind in ({', '.join(names)})", *selection.kinds)
    if selection.stream is not None:
        add("stream = :stream", selection.stream)
    if selection.key is not None:
        add(f"({_equals(postgres, 'key', 'key')} or (key is null and stream = :key))", selection.key)
    if selection.correlation_id is not None:
        add(*_correlated(postgres, selection.correlation_id))
    if selection.id is not None:
        add("id = cast(cast(:id as text) as uuid)" if postgres else "id = :id", selection.id)
    if selection.contains is not None:
        found = "strpos(lower(data::text), lower(:contains))" if postgres else "instr(lower(data), lower(:contains))"
        add(f"{found} > 0", selection.contains)
    source = (
        f"select {_COLUMNS_POSTGRES if postgres else columns} from ensue{'.' if postgres else '_'}events "
        f"where {' and '.join(conditions)} order by position {'desc ' * latest}limit :limit"
    )
    return Call(dialect.sql.compose(source), (*values, limit))


def _correlated(postgres: bool, id: str) -> tuple[str, ...]:
    """Return the condition for what belongs to something, and its values."""
    same = _equals(postgres, "correlation_id", "correlation")
    if not _is_uuid(id):
        return same, id
    as_id = "cast(cast(:root as text) as uuid)" if postgres else ":root"
    return f"({same} or id = {as_id})", id, id  # an event that began something belongs to itself


def _equals(postgres: bool, column: str, parameter: str) -> str:
    condition = f"{column} = :{parameter}"
    if postgres:  # in the words of its index, see migrations/0001_log.sql
        hashed, wanted = f"hashtext({column})", f"hashtext(:{parameter})"
        condition = f"({hashed} & 1023) = ({wanted} & 1023) and {hashed} = {wanted} and {condition}"
    return condition


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
