"""A build at work: events are applied to its tables, and its progress is written, in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from ensue.errors import DatabaseUnavailable, Permanent, UndecodableEvent
from ensue.events import Event
from ensue.handlers.carrying import Carrier, Each, Work
from ensue.handlers.projections.builds import Build
from ensue.handlers.projections.projection import Projection
from ensue.handlers.projections.quiet import quiet
from ensue.handlers.projections.tables import tables_of
from ensue.log import Log, Steps, passes
from ensue.subscriptions import Applies, Delivery, Done, Failure, NotApplied, Park, Retry, Subscription


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

    async def apply(
        self, deliveries: Sequence[Delivery], progress: Callable[[], Steps[None]], *, careful: bool
    ) -> None:
        at: list[int] = []
        try:
            await self._carrier.carry(
                lambda: self._work(deliveries, progress, at), together=not careful and len(deliveries) > 1
            )
        except NotApplied:
            raise
        except Exception as error:
            if passes(error):
                raise error if isinstance(error, DatabaseUnavailable) else DatabaseUnavailable(str(error)) from error
            if not at:  # not while a function was called
                raise
            raise NotApplied(None, _failure(error)) from error

    def _work(self, deliveries: Sequence[Delivery], progress: Callable[[], Steps[None]], at: list[int]) -> Work[None]:
        aside = deliveries and (yield self._stands_aside())
        if aside:
            yield self._tables.enter(self._build)
        if deliveries:
            yield from self._apply(deliveries, at)
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

    def _apply(self, deliveries: Sequence[Delivery], at: list[int]) -> Work[None]:
        projection = self._projection

        def heed(answer: object) -> None:
            if isinstance(answer, (Park, Retry)):
                raise NotApplied(at[-1], answer)
            if not isinstance(answer, Done):
                raise Permanent(
                    f"{projection.name} returned {answer!r}; a projection returns None, Retry(…) or Park(…)"
                )

        try:
            yield Each(
                projection.function.directly,
                self._events(deliveries, at),
                heed,
                partial(quiet, projection.name),
                projection.name,
            )
        except NotApplied:
            raise
        except Exception as error:
            if passes(error):
                raise
            raise NotApplied(at[-1], _failure(error)) from error

    def _events(self, deliveries: Sequence[Delivery], at: list[int]) -> Iterator[Event]:
        types = self._projection.types
        for index, delivery in enumerate(deliveries):
            at.append(index)
            for event in delivery.recorded.events:
                if isinstance(event, types):
                    yield event


def _failure(error: Exception) -> Failure:
    return Failure(error, final=isinstance(error, (Permanent, UndecodableEvent)))
