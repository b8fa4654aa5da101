"""How the tables of a build are made: by SQL, or by a function of the user's."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

from ensue.errors import DeclarationError
from ensue.handlers.carrying import Do, Work
from ensue.handlers.projections.drafting import draft
from ensue.handlers.projections.placing import named, rows_of
from ensue.handlers.projections.postgres_tables import PostgresTables
from ensue.handlers.projections.projection import Projection
from ensue.handlers.projections.tables import tables_of
from ensue.log import Log


def make_live(log: Log, projection: Projection) -> Work[None]:
    """Make those of a projection's tables that are missing where readers see them.

    Raises `DeclarationError` if it does not say how, or if that does not make them.
    """
    tables = tables_of(log)
    missing: list[str] = []
    for each in projection.tables:
        if not (yield tables.exists(each)):
            missing.append(each)  # noqa: PERF401 yields
    if not missing:
        return
    if projection.set_up is None:
        raise DeclarationError(
            f"projection {projection.name!r}: there is no table {', '.join(missing)}: make it with your migrations, or "
            "say how with set_up=: SQL, or a function of a connection"
        )
    if isinstance(projection.set_up, str):
        yield tables.make(projection.set_up)
    elif isinstance(tables, PostgresTables):
        yield _called(projection, projection.set_up)
        for each in missing:
            if (yield tables.exists(each)):
                yield from _refuse_rows(projection, each)
    else:
        yield tables.make((yield _called(projection, partial(draft, projection, projection.set_up))))
    for each in projection.tables:
        if not (yield tables.exists(each)):
            raise DeclarationError(f"projection {projection.name!r}: its set_up does not make the table {each!r}")


def make_aside(log: Log, projection: Projection, number: int, home: str) -> Work[None]:
    """Make the tables of a build beside those that readers see. Raises `DeclarationError` if that cannot be done."""
    tables = tables_of(log)
    set_up = projection.set_up
    if set_up is not None and not isinstance(set_up, str):
        if isinstance(tables, PostgresTables):
            path = yield tables.open_aside(projection.name, number, home)
            yield _called(projection, set_up)
            yield tables.close_aside(projection.name, number, projection.tables, path)
            return
        set_up = yield _called(projection, partial(draft, projection, set_up))
    yield tables.make_aside(projection.name, number, projection.tables, set_up, home)


def _called(projection: Projection, function: Callable[[Any], Any]) -> Do:
    return Do(function, nullcontext, projection.name)


def _refuse_rows(projection: Projection, table: str) -> Work[None]:
    if (yield rows_of(named(table))):
        raise DeclarationError(
            f"projection {projection.name!r}: its set_up puts rows into {table!r}: it makes tables, rows come from "
            "events"
        )
