"""One statement on the caller's own connection, whichever driver that is, sync or async."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from functools import cache
from typing import Any, TypeVar, cast

from ensue.log import Call, Postgres, Query, Steps
from ensue.log.place import Place
from ensue.log.riding import ride_on
from ensue.log.statements import Style

T = TypeVar("T")

_STYLES = {"psycopg": Style.FORMAT, "sqlite3": Style.NUMBERED, "aiosqlite": Style.NUMBERED}


class _NoLog:
    """Where no log is: what the driver raises is raised."""

    class dialect:  # noqa: N801 as `Place` has it
        @staticmethod
        def translate(_: object) -> None: ...


def is_postgres(via: object) -> bool:
    """Tell which database a connection speaks to; raise `UnusableConnection` for what is none."""
    return ride_on(via).kind == Postgres.label


def told(via: Any, query: Query, values: tuple[object, ...]) -> Awaitable[None] | None:
    """Carry a statement out of which nothing comes back; in a pipeline it need not have been answered yet."""
    style = _style(cast("Hashable", type(via)))
    if style is None:
        return ask(via, query, values, _nothing)
    answer = via.execute(query.text(style), query.arrange(style, values))
    return _awaited(answer) if ride_on(via).asynchronous else None


async def _awaited(answer: Any) -> None:
    await answer


def ask(via: object, query: Query, values: tuple[object, ...], found: Callable[[Any], T]) -> Awaitable[T] | T:
    """Carry a statement out, and make of its rows what is returned, or awaited on an async connection."""

    def steps() -> Steps[T]:
        return found((yield Call(query, values)))

    answer: Awaitable[T] | T = ride_on(via).run(steps(), cast("Place", _NoLog))
    return answer


@cache
def _style(kind: Any) -> Style | None:
    for cls in kind.__mro__:
        if cls.__name__ in ("Connection", "AsyncConnection") and (root := cls.__module__.partition(".")[0]) in _STYLES:
            return _STYLES[root]
    return None


def _nothing(_: object) -> None: ...
