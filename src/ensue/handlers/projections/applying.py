"""A build at work: events are applied to its tables, and its progress is written, in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from ensue.errors import DatabaseUnavailable, Permanent, UndecodableEvent
from ensue.events import Event, Recorded, decoder_of, find_class
from ensue.handlers.carrying import Carrier, Each, Work
from ensue.handlers.projections.builds import Build
from ensue.handlers.projections.projection import Projection
from ensue.handlers.projections.quiet import quiet
from ensue.handlers.projections.tables import tables_of
from ensue.log import Log, Steps, passes
from ensue.subscriptions import Applies, Done, Failure, NotApplied, Park, Retry, Subscription


def subscription_of(log: Log, projection: Projection, build: Build, *, partitions: int | None = None) -> Subscription:
    """Return the cursor of a build, with the projection's function behind it."""

    def applies() -> Applies:
        return Applying(log, projection, build)

    return Subscription(
        name=build.cursor,
        types=tuple(each.__type__ for each in projection.types),
        applies=applies,
        batch=projection.batch,
        start="beginning",
        retry=projection.retry,
        partitions=partitions or projection.partitions,
        timeout=projection.timeout,
    )


class Applying:
    """Applies events to the tables of one build."""

    def __init__(self, log: Log, projection: Projection, build: Build) -> None:
        self._log = log
        self._projection = projection
        self._build = build
        self._tables = tables_of(log)
        self._carrier = Carrier(
            log,
            projection.name,
            asynchronous=projection.function.is_async,
            transaction=projection.transaction,
            timeout=projection.timeout,
        )

    async def apply(self, rows: Sequence[Recorded[Any]], progress: Callable[[], Steps[None]], *, careful: bool) -> None:
        at: list[int] = []
        try:
            await self._carrier.carry(lambda: self._work(rows, progress, at), together=not careful and len(rows) > 1)
        except NotApplied:
            raise
        except Exception as error:
            if passes(error):
                raise error if isinstance(error, DatabaseUnavailable) else DatabaseUnavailable(str(error)) from error
            if not at:  # not while a function was called
                raise
            raise NotApplied(None, _failure(error)) from error

    def _work(self, rows: Sequence[Recorded[Any]], progress: Callable[[], Steps[None]], at: list[int]) -> Work[None]:
        aside = rows and (yield self._stands_aside())
        if aside:
            yield self._tables.enter(self._build)
        if rows:
            yield from self._apply(rows, at)
        if aside:
            yield self._tables.leave(self._build)
        yield progress()

    def _stands_aside(self) -> Steps[bool]:
        """Tell whether the build is not live, which stays so until the transaction ends."""
        yield from self._log.begin()
        sql = self._log.dialect.sql
        yield sql["share_projection"](projection=self._build.projection)
        rows = yield sql["build_state"](projection=self._build.projection, number=self._build.number)
        return bool(rows) and rows[0][0] != "live"

    def _apply(self, rows: Sequence[Recorded[Any]], at: list[int]) -> Work[None]:
        projection = self._projection

        def heed(answer: object) -> None:
            if isinstance(answer, (Park, Retry)):
                raise NotApplied(at[-1], answer)
            if not isinstance(answer, Done):
                raise Permanent(
                    f"{projection.name} returned {answer!r}; a projection returns None, Retry(…) or Park(…)"
                )

        try:
            yield Each(partial(self._calls, rows, at), heed, partial(quiet, projection.name), projection.name)
        except NotApplied:
            raise
        except Exception as error:
            if passes(error):
                raise
            raise NotApplied(at[-1], _failure(error)) from error

    def _calls(self, rows: Sequence[Recorded[Any]], at: list[int], via: object) -> Iterator[Any]:
        """Call the function with each event, and keep none: many that live long cost collections of garbage."""
        projection, types = self._projection, self._projection.types
        decoders = {type: self._decoder(type) for type in {row.type for row in rows}}
        for index, row in enumerate(rows):
            at.append(index)
            decode = decoders[row.type]
            if decode is None:
                for event in row.events:
                    if isinstance(event, types):
                        yield projection.call((event, row), via)
            else:
                try:
                    event = decode(row.plain)
                except Exception:  # noqa: BLE001 it says so itself, with its position
                    event = row.event
                yield projection.call((event, row), via)

    def _decoder(self, type: str) -> Callable[[str], Event] | None:
        """Return what makes events of a wire type; None if the log's row has to do it."""
        found = find_class(type)
        return decoder_of(type) if found is not None and issubclass(found, self._projection.types) else None


def _failure(error: Exception) -> Failure:
    return Failure(error, final=isinstance(error, (Permanent, UndecodableEvent)))
