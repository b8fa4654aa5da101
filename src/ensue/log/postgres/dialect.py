"""PostgreSQL: recording is one call of one function; positions are safe below the horizon."""

from __future__ import annotations

import re
from typing import ClassVar

import msgspec

from ensue.errors import (
    DatabaseUnavailable,
    EnsueError,
    EventValueError,
    NotMigrated,
    RecordingError,
    SecondAggregate,
    UnusableConnection,
    VersionConflict,
    WrongDatabase,
)
from ensue.events import Receipt, Written
from ensue.log.dialect import AggregateRule, Fault, warn_of_second
from ensue.log.statements import BEGIN, Call, Library, Query, Steps


class _Told(msgspec.Struct, gc=False):
    """What the recording function returns."""

    positions: tuple[int, ...]
    ids: tuple[str, ...]
    version: int | None
    recorded_at: str
    duplicate: bool
    stream: str | None = None
    """The first receipt's; told only by a duplicate."""
    beside: str | None = None
    """The stream in which this transaction recorded before, if that is another one."""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Told).decode


def _apart(one: Written) -> tuple[str, tuple[str | None, ...]]:
    """Return an event's data, and its other members as the recording function takes them."""
    metadata = None if one.metadata is None else str(one.metadata, "utf-8")
    return str(one.data, "utf-8"), (
        one.type,
        str(one.kind),
        one.key,
        one.id,
        metadata,
        one.correlation_id,
        one.causation_id,
    )


_MISSING = {"3F000", "42P01", "42883", "42704"}  # schema, table, function, object
_LOST = re.compile(r"08...|57P0[123]|55000-closed")


class Postgres:
    """The log in a PostgreSQL schema of its own."""

    label: ClassVar[str] = "PostgreSQL"
    begin: ClassVar[Query] = Query("begin")
    impatient: ClassVar[tuple[Query, ...]] = (Query("set local lock_timeout = '10s'"),)

    def __init__(self, schema: str) -> None:
        self.schema = schema
        self.sql = Library("ensue.log.postgres", r"\bensue\b", schema)

    def append(
        self,
        written: list[Written],
        *,
        stream: str | None,
        expected: int | None,
        dedupe: str | None,
        log: str,
        rule: AggregateRule,
    ) -> Steps[Receipt]:
        """Record events by one call of the recording function."""
        yield BEGIN
        if len(written) > 1:
            events = _encode(written).decode()
            rows = yield Call(self.sql["append"], (events, stream, expected, dedupe, log, rule == "enforce"))
        else:
            data, about = _apart(written[0])
            if stream is None and dedupe is None:
                rows = yield Call(self.sql["append_one_plain"], (data, log, *about))
            else:
                where = (stream, expected, dedupe, log, rule == "enforce")
                rows = yield Call(self.sql["append_one"], (data, *where, *about))
        told = _decode(rows[0][0])
        if told.beside is not None and rule == "warn":
            warn_of_second(told.beside, stream)
        return Receipt(
            told.ids,
            told.positions,
            told.stream if told.duplicate else stream,
            told.version,
            told.recorded_at,
            told.duplicate,
        )

    def prepare(self) -> list[Query]:
        """Create the schema; one migration at a time, however many processes start at once."""
        return [
            Query(f"select pg_advisory_xact_lock(hashtext('ensue migration {self.schema}'))"),
            Query(f"create schema if not exists {self.schema}"),
        ]

    def finish(self) -> list[Query]:
        """Create or replace the functions."""
        return [query for script in self.sql.scripts("functions").values() for query in script]

    def translate(self, fault: Fault, where: str) -> EnsueError | None:
        """Map SQLSTATEs: our own, those of a missing schema, those of a lost connection."""
        return self._of_recording(fault) or self._of_the_connection(fault, where)

    def _of_recording(self, fault: Fault) -> EnsueError | None:
        match fault.code:
            case "EN001":
                found = re.search(r"stream (.*) is at version (\d+), expected (\d+)", fault.message, re.DOTALL)
                return VersionConflict(found[1], int(found[3]), int(found[2])) if found else None
            case "EN002":
                return WrongDatabase(fault.message)
            case "EN003":
                return EventValueError(fault.message)
            case "EN004":
                found = re.search(r"stream (.*) has been .* stream (.*) cannot", fault.message, re.DOTALL)
                return SecondAggregate(found[1], found[2]) if found else None
            case "23505" if "events_stream" in (fault.constraint or fault.message):
                found = re.search(r"\(stream, version\)=\((.*), (\d+)\)", fault.detail or "")
                return VersionConflict(found[1] if found else "", int(found[2]) - 1 if found else None, None)
            case "23505" if "events_id" in (fault.constraint or fault.message):
                return RecordingError("an event with this id has been recorded before; nothing was written")
            case _:
                return None

    def _of_the_connection(self, fault: Fault, where: str) -> EnsueError | None:
        match fault.code:
            case "25P02":
                return UnusableConnection(
                    "the transaction has failed earlier and takes nothing more: roll it back first"
                )
            case "25006":
                return UnusableConnection(f"{fault.message}: recording needs a transaction that may write")
            case "55P03":
                return DatabaseUnavailable(
                    f"PostgreSQL: {fault.message}: another transaction holds what this one needs. If it is the "
                    "worker's own, in this event loop, call this in a thread: await asyncio.to_thread(…)"
                )
            case code if code in _MISSING and (self.schema in fault.message):
                return NotMigrated(
                    f"there is no log in {where} yet, or one of an older release ({fault.message}): "
                    "run `ensue migrate`, or correct the URL or the schema of the App"
                )
            case code if code is not None and _LOST.fullmatch(code):
                return DatabaseUnavailable(f"PostgreSQL broke off the connection: {fault.message}")
            case _:
                return None
