"""SQLite: one writer at a time, so position order is commit order and there is no horizon to compute."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import ClassVar

import msgspec

from ensue.errors import EnsueError, NotMigrated, RecordingError, SecondAggregate, UnusableConnection, VersionConflict
from ensue.events import Receipt, Written
from ensue.log.dialect import AggregateRule, Fault, NotUtf8, warn_of_second
from ensue.log.statements import BEGIN, Call, Library, Observe, Query, Steps

_encode = msgspec.json.Encoder().encode
_decode_ids = msgspec.json.Decoder(tuple[str, ...]).decode
_decode_positions = msgspec.json.Decoder(tuple[int, ...]).decode


class Sqlite:
    """The log in tables of one prefix in an SQLite file."""

    label: ClassVar[str] = "SQLite"
    begin: ClassVar[Query] = Query("begin immediate")
    impatient: ClassVar[tuple[Query, ...]] = ()  # the connection waits so long at most

    def __init__(self, schema: str) -> None:
        self.schema = schema
        self.sql = Library("ensue.log.sqlite", r"\bensue_", f"{schema}_")

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
        """Record events by plain inserts, behind the checks that need the write lock."""
        yield BEGIN
        if stream is not None or dedupe is not None:
            yield Call(self.sql["lock"])
        if dedupe is not None:
            for positions, ids, version, recorded_at, first_stream in (
                yield Call(self.sql["find_deduplicated"], (dedupe,))
            ):
                return Receipt(
                    id_texts=_decode_ids(ids),
                    positions=_decode_positions(positions),
                    stream=first_stream,
                    version=version,
                    recorded_at_text=recorded_at,
                    duplicate=True,
                )
        before = None
        if stream is not None:
            if rule != "off":
                yield from self._look_beside(stream, rule)
            before = (yield Call(self.sql["stream_version"], (stream,)))[0][0]
            if expected is not None and expected != before:
                raise VersionConflict(stream, expected, before)
        moment = datetime.now(UTC).isoformat(timespec="microseconds")[:-6] + "Z"
        rows = [
            (
                each.id,
                each.type,
                each.kind.value,
                stream,
                None if before is None else before + number,
                each.key,
                str(each.data, "utf-8"),
                None if each.metadata is None else str(each.metadata, "utf-8"),
                each.correlation_id,
                each.causation_id,
                moment,
            )
            for number, each in enumerate(written, 1)
        ]
        many = len(rows) > 1
        yield Call(self.sql["insert"], rows if many else rows[0], many)
        last: int = (yield Call(self.sql["last_position"]))[0][0]
        receipt = Receipt(
            tuple([each.id for each in written]),
            tuple(range(last - len(rows) + 1, last + 1)),
            stream,
            None if before is None else before + len(rows),
            moment,
            False,
        )
        if dedupe is not None:
            ids, positions = _encode(receipt.id_texts).decode(), _encode(receipt.positions).decode()
            yield Call(self.sql["insert_deduplicated"], (dedupe, positions, ids, stream, receipt.version, moment))
        return receipt

    def _look_beside(self, stream: str, rule: AggregateRule) -> Steps[None]:
        try:
            committed = (yield Observe(Call(self.sql["last_committed"])))[0][0]
        except NotMigrated:  # this transaction has made the tables
            committed = 0
        for (first,) in (yield Call(self.sql["first_stream"], (committed,))):
            if first == stream:
                return
            if rule == "enforce":
                raise SecondAggregate(first, stream)
            warn_of_second(first, stream)

    def prepare(self) -> list[Query]:
        """Nothing: the tables are made in the file as it is."""
        return []

    def finish(self) -> list[Query]:
        """Nothing: there are no functions."""
        return []

    def translate(self, fault: Fault, where: str) -> EnsueError | None:
        """Map the messages of SQLite that concern the log."""
        if f"no such table: {self.schema}_" in fault.message or f"no such table: main.{self.schema}_" in fault.message:
            return NotMigrated(
                f"there is no log in {where} yet, or one of an older release ({fault.message}): "
                "run `ensue migrate`, or, if it is elsewhere, go to its folder or correct the URL of the App"
            )
        if "UNIQUE constraint failed" in fault.message and f"{self.schema}_events.id" in fault.message:
            return RecordingError("an event with this id has been recorded before; nothing was written")
        if "Could not decode to UTF-8" in fault.message:
            return NotUtf8(f"{fault.message}: the file was written to by something else, or is damaged")
        if "readonly database" in fault.message:
            return UnusableConnection(
                f"{fault.message}: the log in {where} needs a connection that may write, and the right to write "
                "to the file and its folder"
            )
        return None
