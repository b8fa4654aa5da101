"""What is done with builds: comparing, switching, copying, dropping. Operations in the open transaction."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ensue.errors import DatabaseUnavailable, ProjectionError, UnknownName
from ensue.handlers.projections.builds import Build, all_builds
from ensue.handlers.projections.tables import tables_of
from ensue.log import Call, Log, Query, Steps

SAMPLE = 10
"""Rows that a comparison shows of each kind."""


class Reach(msgspec.Struct, frozen=True):
    """How far a build is."""

    slowest: int
    """The position up to which all of its parts are done."""
    fastest: int
    parked: int
    """Keys that are set aside."""
    soon: int
    """How many of them are tried again within two seconds."""


class TableDifference(msgspec.Struct, frozen=True, kw_only=True):
    """What two builds of a table hold."""

    table: str
    columns: tuple[str, ...]
    """Those that both have; only these are compared."""
    live_rows: int
    new_rows: int
    live_checksum: str
    """Of all its rows in these columns, whatever their order. If both are equal, single rows are not compared."""
    new_checksum: str
    only_live: int
    """Rows that only the live one has, as they are, or has more often."""
    only_new: int
    sample_live: tuple[tuple[str | None, ...], ...]
    """Some of them, as text."""
    sample_new: tuple[tuple[str | None, ...], ...]

    @property
    def same(self) -> bool:
        """Whether both hold the same rows."""
        return self.live_rows == self.new_rows and not self.only_live and not self.only_new


def reach(log: Log, build: Build) -> Steps[Reach | None]:
    """Return how far a build is; None if nobody has begun."""
    rows = yield log.dialect.sql["reach_of"](subscription=build.cursor)
    return Reach(*rows[0]) if rows else None


def pick(builds: Sequence[Build], projection: str, number: int | None) -> tuple[Build, Build]:
    """Return the live build, and the one that is meant: by its number, or the newest that is being built."""
    live = next((each for each in builds if each.state == "live"), None)
    if live is None:
        raise UnknownName(f"the log has no projection {projection!r}")
    others = [each for each in builds if each.state != "live"]
    if number is None:
        others = [each for each in others if each.state == "building"]
    else:
        others = [each for each in others if each.number == number]
    if not others and number is not None:
        there = ", ".join(f"{each.number} ({each.state})" for each in builds)
        raise ProjectionError(f"projection {projection!r} has no build {number} beside the live one; it has {there}")
    if not others:
        raise ProjectionError(
            f"projection {projection!r} has no build beside the live one: ensue replay {projection} --shadow makes one"
        )
    return live, others[-1]


def compare(log: Log, live: Build, new: Build, table: str) -> Steps[TableDifference]:
    """Compare what two builds of a table hold: by counts and checksums, and row by row if these differ."""
    tables = tables_of(log)
    here, there = tables.name(live, table, live=True), tables.name(new, table, live=False)
    mine, theirs = (yield from tables.columns(here)), (yield from tables.columns(there))
    columns = tuple(each for each in mine if each in theirs)
    if not columns:
        raise ProjectionError(f"table {table!r} has no column that both builds have: they cannot be compared")
    totals: list[tuple[int, str]] = []
    for one in (here, there):
        rows = yield _verbatim(f"select count(*), {tables.checksum(columns)} from {one}")
        totals.append((rows[0][0], str(rows[0][1])))
    (live_rows, live_checksum), (new_rows, new_checksum) = totals
    same = totals[0] == totals[1]
    only_live, sample_live = (0, ()) if same else (yield from _only(columns, here, there))
    only_new, sample_new = (0, ()) if same else (yield from _only(columns, there, here))
    return TableDifference(
        table=table,
        columns=columns,
        live_rows=live_rows,
        new_rows=new_rows,
        live_checksum=live_checksum,
        new_checksum=new_checksum,
        only_live=only_live,
        only_new=only_new,
        sample_live=sample_live,
        sample_new=sample_new,
    )


Sample = tuple[tuple[str | None, ...], ...]


def _only(columns: Sequence[str], one: str, other: str) -> Steps[tuple[int, Sample]]:
    """Return how many rows only one table has, or has more or less often than the other, and some of them."""
    listed = ", ".join(f'"{each}"' for each in columns)
    texts = ", ".join(f'cast("{each}" as text)' for each in columns)
    counted = f"select {listed}, count(*) from {{}} group by {listed}"
    only = f"{counted.format(one)} except {counted.format(other)}"
    found = (yield _verbatim(f"select count(*) from ({only}) as d"))[0][0]
    rows = yield _verbatim(f"select {texts} from ({only}) as d order by 1 limit {SAMPLE}")
    return found, tuple(tuple(row) for row in rows)


def _verbatim(sql: str) -> Call:
    return Call(Query.verbatim(sql))


def switch(log: Log, projection: str, number: int | None, *, actor: str, reason: str, force: bool) -> Steps[Build]:
    """Put a build where readers see it, and keep the one that was there; return what it was before.

    Raises `ProjectionError` if it has not come as far as the live one, or has keys set aside that the live one has not.
    """
    sql = log.dialect.sql
    yield Call(sql["lock_projections"])
    yield sql["switch_projection"](projection=projection)
    live, new = pick((yield from all_builds(log, projection)), projection, number)
    here, there = (yield from reach(log, live)), (yield from reach(log, new))
    if not force:
        if there is None or (here is not None and there.slowest < here.fastest):
            raise NotThere(
                f"build {new.number} of projection {projection!r} has not come as far as the live one: "
                f"{there.slowest if there else 0} of {here.fastest if here else 0}"
            )
        if there.parked > (here.parked if here else 0):
            raise ProjectionError(
                f"build {new.number} of projection {projection!r} has set {there.parked} keys aside, the live one "
                f"{here.parked if here else 0}: ensue dead list {new.cursor} shows why; --force switches all the same"
            )
    yield from tables_of(log).swap(live, new)
    yield sql["set_build_state"](projection=projection, number=live.number, state="kept")
    yield sql["set_build_state"](projection=projection, number=new.number, state="live")
    yield from _audit(log, new.cursor, f"switch from build {live.number} to {new.number}", actor, reason)
    return live


class NotThere(ProjectionError):
    """A build is not as far as the live one yet."""


def drop(log: Log, projection: str, number: int, *, actor: str, reason: str) -> Steps[None]:
    """Remove a build that is not live: its tables, its checkpoint, and what it has set aside."""
    sql = log.dialect.sql
    yield Call(sql["lock_projections"])
    yield sql["switch_projection"](projection=projection)
    _, build = pick((yield from all_builds(log, projection)), projection, number)
    yield from tables_of(log).drop_aside(build)
    yield sql["delete_subscription"](name=build.cursor)
    yield sql["delete_build"](projection=projection, number=number)
    yield sql["note_dropped"](projection=projection, number=number)
    yield from _audit(log, build.cursor, f"drop build {number}", actor, reason)


def copy(log: Log, live: Build, new: Build) -> Steps[None]:
    """Fill a new build with what the live one holds, and let it go on from there.

    Raises `ProjectionError` where that cannot be right: if a table or a column has no counterpart, or if one of them
    wants events that the other does not, and there are some.
    """
    sql, tables = log.dialect.sql, tables_of(log)
    yield sql["switch_projection"](projection=live.projection)
    cannot = f"build {new.number} of projection {live.projection!r} cannot begin with what build {live.number} holds"
    if more := set(new.tables).difference(live.tables):
        raise ProjectionError(f"{cannot}: that one has no table {', '.join(sorted(more))}; build it from the log")
    yield from _refuse_other_events(log, live, new, cannot)
    for table in new.tables:
        here, there = tables.name(live, table, live=True), tables.name(new, table, live=False)
        names = yield from tables.columns(here)
        if gone := set(names).difference((yield from tables.columns(there))):
            raise ProjectionError(
                f"{cannot}: its table {table!r} has no {', '.join(sorted(gone))}; build it from the log"
            )
        columns = ", ".join(f'"{each}"' for each in names)
        try:
            yield _verbatim(f"insert into {there} ({columns}) select {columns} from {here}")
        except DatabaseUnavailable:
            raise
        except Exception as error:
            raise ProjectionError(f"{cannot}: its table {table!r} does not take the rows: {error}") from error
    yield sql["delete_partitions"](subscription=new.cursor)
    yield sql["copy_partitions"](source=live.cursor, target=new.cursor)
    yield sql["copy_parked"](source=live.cursor, target=new.cursor)


def _refuse_other_events(log: Log, live: Build, new: Build, cannot: str) -> Steps[None]:
    wanted: dict[str, set[str]] = {}
    reached = 0
    for name, _, _, _, checkpoint, *_, types in (yield Call(log.dialect.sql["progress"])):
        if name in (live.cursor, new.cursor):
            wanted[name] = set(msgspec.json.decode(types, type=list[str]))
            reached = max(reached, checkpoint if name == live.cursor else 0)
    for type in sorted(wanted[live.cursor] ^ wanted[new.cursor]):
        if (yield log.dialect.sql["count_type"](type=type, after=0, until=reached, most=1))[0][0]:
            which = "has applied" if type in wanted[live.cursor] else "has not applied"
            raise ProjectionError(f"{cannot}: that one {which} {type}; build it from the log")


def _audit(log: Log, name: str, action: str, actor: str, reason: str) -> Steps[None]:
    yield log.dialect.sql["insert_audit"](
        actor=actor, action=action, subscription=name, key=None, event_id=None, reason=reason, detail=None
    )
