"""Builds: the times a projection's tables were made from the log. One is live; others are being built, or are kept.

Each build has a cursor of its own, a subscription. The first bears the projection's name, later ones their number too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from ensue.errors import ProjectionError, UnknownName
from ensue.handlers.carrying import Work, as_steps
from ensue.handlers.projections.projection import Projection
from ensue.handlers.projections.setting_up import make_aside, make_live
from ensue.handlers.projections.tables import tables_of
from ensue.log import Call, Log, Steps

State = Literal["live", "building", "kept"]
_json = msgspec.json.Encoder().encode


class Build(msgspec.Struct, frozen=True, kw_only=True):
    """One building of a projection's tables."""

    projection: str
    number: int
    version: int
    """Of the code that builds it."""
    state: State
    """`live`: readers see its tables. `building`: beside them. `kept`: it was live, and can be again."""
    by_hand: bool
    """It is built by `ensue replay` alone, not by workers."""
    tables: tuple[str, ...]
    home: str
    """The schema in which readers see its tables, in PostgreSQL."""
    created_at: str
    live_since: str | None

    @property
    def cursor(self) -> str:
        """The name of its subscription."""
        return cursor_of(self.projection, self.number)


def cursor_of(projection: str, number: int) -> str:
    """Return the name of a build's subscription."""
    return projection if number == 1 else f"{projection}:{number}"


def first_build(projection: Projection) -> Build:
    """Return what the first build of a projection is, wherever the log has come to."""
    return Build(
        projection=projection.name,
        number=1,
        version=projection.version,
        state="live",
        by_hand=False,
        tables=projection.tables,
        home="",
        created_at="",
        live_since=None,
    )


@dataclass(frozen=True, slots=True)
class Resolved:
    """Which build of each projection the code here works on."""

    builds: Sequence[Build]
    others: frozenset[str]
    """The cursors of other builds: other code works on them, or nobody."""


def all_builds(log: Log, projection: str | None = None) -> Steps[list[Build]]:
    """Return the builds of one projection, or of all."""
    rows = yield log.dialect.sql["builds"](projection=projection)
    return [
        Build(
            projection=name,
            number=number,
            version=version,
            state=state,
            by_hand=bool(by_hand),
            tables=tuple(msgspec.json.decode(tables, type=list[str])),
            home=home,
            created_at=created_at,
            live_since=live_since,
        )
        for name, number, version, state, by_hand, tables, home, created_at, live_since in rows
    ]


def live_build(log: Log, projection: str) -> Steps[Build]:
    """Return the live build; raise `UnknownName` if there is no such projection."""
    for build in (yield from all_builds(log, projection)):
        if build.state == "live":
            return build
    raise UnknownName(f"the log has no projection {projection!r}")


def resolve(log: Log, projections: Iterable[Projection], *, create: bool) -> Steps[Resolved]:
    """Find the build of each projection on which code of its version works; with `create`, make it if there is none.

    Of several with its version the live one, else the newest; but none that is built by hand. None is made if a
    function of the user's makes the tables: see `lacking`.
    """
    found: dict[str, list[Build]] = {}
    for each in (yield from all_builds(log)):
        found.setdefault(each.projection, []).append(each)
    chosen: list[Build] = []
    others: set[str] = set()
    for projection in projections:
        there = found.get(projection.name, [])
        mine = [
            each
            for each in there
            if each.version == projection.version and not (each.by_hand and each.state == "building")
        ]
        mine.sort(key=lambda each: (each.state == "live", each.number))
        if mine:
            build = mine[-1]
        elif create and not callable(projection.set_up):
            build = yield from as_steps(create_build(log, projection, by_hand=False))
        else:
            others.update(each.cursor for each in there)
            continue
        chosen.append(build)
        others.update(each.cursor for each in there if each is not build)
    return Resolved(chosen, frozenset(others))


def create_build(log: Log, projection: Projection, *, by_hand: bool, copied: bool = False) -> Work[Build]:
    """Make the tables of a new build, and note it; the first is live at once."""
    yield _locked(log)
    there: list[Build] = yield all_builds(log, projection.name)  # somebody may have been faster
    fitting = [each for each in there if each.version == projection.version and not each.by_hand]
    if fitting and not by_hand:
        return fitting[-1]
    live = next((each for each in there if each.state == "live"), None)
    if live is not None and not copied:
        yield refuse_if_pruned(log, projection)
    number = yield _next_number(log, projection.name)
    if live is None:
        home = yield tables_of(log).home()
        yield from make_live(log, projection)
    else:
        home = live.home
        yield from make_aside(log, projection, number, home)
    build = Build(
        projection=projection.name,
        number=number,
        version=projection.version,
        state="live" if live is None else "building",
        by_hand=by_hand,
        tables=projection.tables,
        home=home,
        created_at="",
        live_since=None,
    )
    yield _inserted(log, build)
    there = yield all_builds(log, projection.name)
    return next(each for each in there if each.number == number)


def _locked(log: Log) -> Steps[None]:
    yield from log.begin()
    yield Call(log.dialect.sql["lock_projections"])


def _next_number(log: Log, projection: str) -> Steps[int]:
    return int((yield log.dialect.sql["next_build"](projection=projection))[0][0])


def _inserted(log: Log, build: Build) -> Steps[None]:
    yield log.dialect.sql["insert_build"](
        projection=build.projection,
        number=build.number,
        version=build.version,
        state=build.state,
        by_hand=int(build.by_hand),
        tables=_json(build.tables).decode(),
        home=build.home,
    )


def lacking(log: Log, projections: Iterable[Projection]) -> Steps[list[Projection]]:
    """Return the projections that have no build yet of those whose tables a function makes: `resolve` makes none."""
    called = [each for each in projections if callable(each.set_up)]
    if not called:
        return []
    found = yield from resolve(log, called, create=False)
    there = {each.projection for each in found.builds}
    return [each for each in called if each.name not in there]


def refuse_if_pruned(log: Log, projection: Projection) -> Steps[None]:
    """Raise `ProjectionError` if events are no more that the projection was made of: what is left does not make it."""
    if gone := (yield from log.pruned(0, projection.stored)):
        events, types = sum(each.events for each in gone), sorted({each.type for each in gone})
        raise ProjectionError(
            f"projection {projection.name!r} cannot be built or repaired from the log: {events} events of "
            f"{', '.join(types)} have been pruned (ensue prune --dry-run shows when), and what is left does not make "
            "its tables"
        )
