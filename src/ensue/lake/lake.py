"""A lake: what it holds, and what can be done with it."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, cast, get_args

from ensue.errors import LakeError
from ensue.events import Recorded
from ensue.lake.address import Address, read_address
from ensue.lake.checking import Finding, Standing, check, stand
from ensue.lake.columns import COLUMNS_BACK, PARTITIONS, SCHEMA, recorded_from
from ensue.lake.erasing import StillKept, about, member_is
from ensue.lake.libraries import duckdb
from ensue.lake.seeing import rows, seeing
from ensue.lake.table import Compacted, Table
from ensue.lake.typed import view_name

Contents = Literal["integration", "everything", "received"]
"""What is collected: what services publish, read from their logs; all that their logs hold; what came by brokers."""
SIZE = 128 * 1024 * 1024
"""Bytes of a file after compaction."""
_CONTENTS = "ensue.contents"
_BATCH = 10_000


class Lake:
    """A lake, named by its address; nothing is opened or made before it is needed.

    What it reads it reads as it was committed when it began. It may be used by several threads, each for itself.
    """

    def __init__(self, address: str | Path | Address) -> None:
        self.address = address if isinstance(address, Address) else read_address(address)
        self.events: Table = self.address.table("events")
        """The table of all events."""

    def __repr__(self) -> str:
        return f"Lake({str(self.address)!r})"

    def begin(self, contents: Contents) -> None:
        """Make the lake if it is not there; raise `LakeError` if it is, and holds something else."""
        if not self.events.exists():
            self.events.create(SCHEMA, PARTITIONS, {_CONTENTS: contents})
        if (found := self.contents) != contents:
            raise LakeError(
                f"{self.address} holds {_SAID[found]}, and cannot be gone on with as one of {_SAID[contents]}: what "
                "was passed over would be missing. Begin another one"
            )

    @property
    def contents(self) -> Contents:
        """What it holds. Raises `LakeError` if there is no lake."""
        self.require()
        found = self.events.properties().get(_CONTENTS)
        if found in get_args(Contents):
            return cast("Contents", found)
        raise LakeError(f"{self.address}: its table of events was not made by ensue: it does not say what it holds")

    def require(self) -> None:
        """Raise `LakeError` if there is no lake."""
        if not self.events.exists():
            raise LakeError(f"there is no lake at {self.address}: `ensue lake collect` makes one")

    # --- asking

    @contextmanager
    def connect(self) -> Generator[Any]:
        """Lend a DuckDB connection that sees the table `events`, and a view for each type of event.

        The view of a type whose class was known to the collector has its fields as columns; others have the payload.
        """
        self.require()
        typed = {name: self.address.table(name).data() for name in self.address.names()}
        with seeing(events=self.events.data(), **typed) as connection:
            kinds = [type for (type,) in connection.execute("select distinct type from events order by 1").fetchall()]
            for type in kinds:
                if (name := view_name(type)) not in typed:
                    chosen = type.replace("'", "''")
                    connection.execute(f"create view \"{name}\" as select * from events where type = '{chosen}'")
            yield connection

    def sql(self, query: str) -> Any:
        """Ask in the SQL of DuckDB; return the answer as a `pyarrow.Table`, which has `to_pandas()` and `to_pylist()`.

        Raises `LakeError` with DuckDB's words for a query that it does not understand.
        """
        with self.connect() as connection:
            try:
                return connection.sql(query).to_arrow_table()
            except duckdb.Error as error:
                raise LakeError(str(error)) from error

    def read(
        self,
        source: str,
        *,
        after: int = 0,
        until: int | None = None,
        types: Sequence[str] = (),
        keys: Sequence[str] | None = None,
        part: tuple[int, int] = (0, 1),
        by_key: bool = False,
    ) -> Iterator[Recorded[Any]]:
        """Read one source's events in its order; positions are those of its log.

        `part` is (number, count): the events of the keys that fall to one of so many parts. With `by_key` one key comes
        after the other, each in its order. Erased events are left out.
        """
        conditions = ["source = $source", "erased_at is null", "coalesce(position, sequence) > $after"]
        values: dict[str, Any] = {"source": source, "after": after}
        if until is not None:
            conditions.append("coalesce(position, sequence) <= $until")
            values["until"] = until
        if types:
            conditions.append("type in (select unnest($types))")
            values["types"] = list(types)
        if keys is not None:
            conditions.append("coalesce(key, id) in (select unnest($keys))")
            values["keys"] = list(keys)
        number, count = part
        if count > 1:
            conditions.append(f"hash(coalesce(key, id)) % {int(count)} = {int(number)}")
        self.require()
        by_position = "coalesce(position, sequence)"  # but for what came by brokers, as the sequence
        order = f"coalesce(key, id), {by_position}" if by_key else by_position
        asked = f"select {COLUMNS_BACK} from events where {' and '.join(conditions)} order by {order}"
        with seeing(events=self.events.data()) as connection:
            for batch in connection.sql(asked, params=values).to_arrow_reader(_BATCH):
                yield from recorded_from(batch)

    # --- looking after it

    def sources(self) -> list[Standing]:
        """Return each source, and how far it has been collected."""
        self.require()
        return stand(self.events)

    def check(self) -> list[Finding]:
        """Look for holes, doubled events and disorder in every source; return what was found, nothing if all is well.

        It proves that what the lake says it holds is there once. That nothing is missing which a log holds is proven by
        `compare`.
        """
        self.require()
        return check(self.events, in_order=self.contents != "received")

    def compact(self, size: int = SIZE) -> dict[str, Compacted]:
        """Put small files together, sorted, into files of about so many bytes; return what was done, by table.

        Collectors may go on meanwhile. What is replaced stays readable until the format's own clean-up.
        """
        self.require()
        names = ("events", *self.address.names())
        return {name: self.address.table(name).compact(size) for name in names}

    def erase(self, subject: str, *, field: str | None = None, dry_run: bool = False) -> list[str]:
        """Take out what is said about somebody, for good; return the ids of the events.

        Which events these are, the declarations say: those with `Personal` fields of which this is the subject. Of
        types whose class is not imported or has no such fields, and of old structures that do not say whose theirs are,
        it is those whose key or stream is the subject. With `field` it is those, of all types, where that member of the
        payload (`customer.id` for one inside another) is the subject, and no others. The event stays as a tombstone:
        source, sequence number, position, id, type and time; so `check` still finds every number. Its row in the table
        of its type goes. Files that held what was erased are deleted, and with them older versions of the tables.
        Raises `LakeError` if a catalog keeps such versions: then all is erased but what they hold.
        """
        self.require()
        events = self.events.data()
        if field is None:
            condition = about([type for (type,) in rows("select distinct type from events", events=events)])
        else:
            condition = member_is(field.split("."))
        asked = f"select id from events where erased_at is null and ({condition}) order by source, sequence"
        ids = [id for (id,) in rows(asked, {"subject": subject}, events=events)]
        if ids and not dry_run:
            at = datetime.now(UTC)
            kept: list[StillKept] = []
            for table in (*map(self.address.table, self.address.names()), self.events):
                try:
                    table.erase(ids, at)
                except StillKept as error:  # the others must not wait for that
                    kept.append(error)
            if kept:
                raise LakeError("; ".join(map(str, kept))) from kept[0]
        return ids


_SAID = {
    "integration": "what services publish, read from their logs",
    "everything": "all that the logs of services hold",
    "received": "what came by brokers",
}
