"""What is done with builds: comparing, switching, copying, dropping. Operations in the open transaction."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ensue.errors import ProjectionError, UnknownName
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
    only_live: int
    """Rows that only the live one has, as they are."""
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
    if not others:
        what = "no build beside the live one" if number is None else f"no build {number} beside the live one"
        raise ProjectionError(f"projection {projection!r} has {what}: ensue replay {projection} --shadow makes one")
    return live, others[-1]


def compare(log: Log, live: Build, new: Build, table: str) -> Steps[TableDifference]:
    """Compare what two builds of a table hold, row by row."""
    tables = tables_of(log)
    here, there = tables.name(live, table, live=True), tables.name(new, table, live=False)
    mine, theirs = (yield from tables.columns(here)), (yield from tables.columns(there))
    columns = tuple(each for each in mine if each in theirs)
    if not columns:
        raise ProjectionError(f"table {table!r} has no column that both builds have: they cannot be compared")
    listed = ", ".join(f'"{each}"' for each in columns)
    texts = ", ".join(f'cast("{each}" as text)' for each in columns)

    def ask(sql: str) -> Call:
        return Call(Query.verbatim(sql))

    counts: list[int] = []
    samples: list[tuple[tuple[str | None, ...], ...]] = []
    for one, other in ((here, there), (there, here)):
        only = f"select {listed} from {one} except select {listed} from {other}"
        counts.append((yield ask(f"select count(*) from {one}"))[0][0])
        counts.append((yield ask(f"select count(*) from ({only}) as d"))[0][0])
        rows = yield ask(f"select {texts} from ({only}) as d order by 1 limit {SAMPLE}")
        samples.append(tuple(tuple(row) for row in rows))
    return TableDifference(
        table=table,
        columns=columns,
        live_rows=counts[0],
        new_rows=counts[2],
        only_live=counts[1],
        only_new=counts[3],
        sample_live=samples[0],
        sample_new=samples[1],
    )


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
    yield from _audit(log, build.cursor, f"drop build {number}", actor, reason)


def copy(log: Log, live: Build, new: Build) -> Steps[None]:
    """Fill a new build with what the live one holds, and let it go on from there."""
    sql, tables = log.dialect.sql, tables_of(log)
    yield sql["switch_projection"](projection=live.projection)
    for table in new.tables:
        here, there = tables.name(live, table, live=True), tables.name(new, table, live=False)
        columns = ", ".join(f'"{each}"' for each in (yield from tables.columns(here)))
        yield Call(Query.verbatim(f"insert into {there} ({columns}) select {columns} from {here}"))
    yield sql["delete_partitions"](subscription=new.cursor)
    yield sql["copy_partitions"](source=live.cursor, target=new.cursor)
    yield sql["copy_parked"](source=live.cursor, target=new.cursor)


def _audit(log: Log, name: str, action: str, actor: str, reason: str) -> Steps[None]:
    yield log.dialect.sql["insert_audit"](
        actor=actor, action=action, subscription=name, key=None, event_id=None, reason=reason, detail=None
    )
