"""Reading the log as an iterable, sync or async, batch by batch."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

from ensue.events import Recorded
from ensue.log import Log, Selection, Steps

_BATCH = 1000


class Reading:
    """The events of a selection in position order; iterate with `for` or `async for`, as often as you like.

    It stops where the log was complete when the iteration began: nothing below can appear later, so the last
    position read is a safe place to go on from. Only one batch is held in memory.
    """

    def __init__(self, log: Log, selection: Selection, limit: int | None, via: object) -> None:
        self._log = log
        self._selection = selection
        self._limit = limit
        self._via = via

    def __iter__(self) -> Iterator[Recorded[Any]]:
        if self._via is not None:
            yield from self._pages(self._via)
            return
        with self._log.own.lend() as connection:
            yield from self._pages(connection)

    def _pages(self, via: object) -> Iterator[Recorded[Any]]:
        page = _Page(self._selection, self._limit)
        page.end_at(self._log.run(self._log.horizon(), via))
        while not page.last:
            yield from page.turn(self._log.run(page.steps(self._log), via))

    async def __aiter__(self) -> AsyncIterator[Recorded[Any]]:
        if self._via is not None:
            async for recorded in self._pages_async(self._via):
                yield recorded
            return
        async with self._log.own.lend_async() as connection:
            async for recorded in self._pages_async(connection):
                yield recorded

    async def _pages_async(self, via: object) -> AsyncIterator[Recorded[Any]]:
        page = _Page(self._selection, self._limit)
        page.end_at(await self._log.run(self._log.horizon(), via))
        while not page.last:
            for recorded in page.turn(await self._log.run(page.steps(self._log), via)):
                yield recorded


class _Page:
    """Where a reading stands."""

    def __init__(self, selection: Selection, limit: int | None) -> None:
        self._selection = selection
        self._left = limit
        self._size = 0
        self.last = limit == 0

    def end_at(self, horizon: int) -> None:
        asked = self._selection.until
        self._selection = replace(self._selection, until=horizon if asked is None else min(asked, horizon))

    def steps(self, log: Log) -> Steps[list[Recorded[Any]]]:
        self._size = _BATCH if self._left is None else min(_BATCH, self._left)
        return log.read(self._selection, self._size)

    def turn(self, rows: list[Recorded[Any]]) -> list[Recorded[Any]]:
        if self._left is not None:
            self._left -= len(rows)
        self.last = len(rows) < self._size or self._left == 0
        if rows:
            self._selection = replace(self._selection, after=rows[-1].position)
        return rows
