"""Server-sent events: what changes by itself is rendered here, and sent as it would stand in the page."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import replace

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from ensue.console import rendering
from ensue.console.entrance import Entrance, refused
from ensue.console.troubles import status_of, told
from ensue.console.views import events, overview
from ensue.console.visits import Visit, is_number
from ensue.errors import ConsoleRefused
from ensue.log import Selection

_TAIL = 0.5
"""Seconds between two looks for new events; ten times that while there are none."""
_ROWS = 100
_OUTAGE = 5.0
"""Seconds to wait while the database does not answer."""
_QUIET = 15.0
"""Seconds after which something is sent, so that a connection that is lost is found out."""
_LASTS = 300.0
"""Seconds after which a browser has to ask again, and say again who it is."""
_WATCHERS = 64
"""So many listen at once; one more is told to come back later."""


def routes(console: Entrance) -> list[Route]:
    """Return what browsers listen to."""
    watchers = _Watchers()

    def part(*templates: str) -> Callable[[Request], object]:
        async def endpoint(request: Request) -> Response:
            return await _stream(console, request, watchers, lambda visit: _parts(visit, templates, console.closing))

        return endpoint

    async def tail(request: Request) -> Response:
        return await _stream(console, request, watchers, lambda visit: _begin_tail(visit, console.closing))

    return [
        Route("/live/overview", part("overview_top", "overview_rest")),
        Route("/live/subscriptions", part("subscriptions_live")),
        Route("/live/events", tail),
    ]


class _Watchers:
    """Counts who listens."""

    def __init__(self) -> None:
        self.number = 0


async def _stream(
    console: Entrance, request: Request, watchers: _Watchers, begin: Callable[[Visit], AsyncIterator[str]]
) -> Response:
    visitor = await console.visitor(request)
    if visitor is None:
        return Response("who are you?", status_code=401, media_type="text/plain")
    if watchers.number >= _WATCHERS:
        return Response("too many listen already", status_code=503, headers={"Retry-After": "30"})
    visit = console.visit(request, visitor)
    try:
        parts = await run_in_threadpool(begin, visit)
    except Exception as error:  # noqa: BLE001 what nobody can mend is raised again
        status = status_of(error)
        if isinstance(error, ConsoleRefused):
            refused(request, visitor, error)
        return Response(told(error, payloads=visitor.payloads), status_code=status, media_type="text/plain")

    async def messages() -> AsyncIterator[str]:
        watchers.number += 1
        until = time.monotonic() + _LASTS
        try:
            async for text in parts:
                yield text
                if time.monotonic() > until:
                    break
        finally:
            watchers.number -= 1

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(messages(), media_type="text/event-stream", headers=headers)


def _message(event: str, text: str) -> str:
    lines = "\n".join(f"data: {line}" for line in text.splitlines())
    return f"event: {event}\n{lines}\n\n"


async def _rest(seconds: float, closing: asyncio.Event) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await closing.wait()


async def _parts(visit: Visit, templates: Sequence[str], closing: asyncio.Event) -> AsyncIterator[str]:
    """Yield parts of a page whenever there has been a new look at the log."""
    last: object = None
    while not closing.is_set():
        try:
            beat = await run_in_threadpool(visit.pulse.beat)
        except Exception as error:  # noqa: BLE001 the database may come back
            status_of(error)
            outage = (
                rendering.environment()
                .get_template("outage.html")
                .render(told=told(error, payloads=visit.visitor.payloads))
            )
            yield _message(templates[0], outage)
            await _rest(_OUTAGE, closing)
            continue
        if beat is not last:
            last, values = beat, overview.live(visit, beat)
            for each in templates:
                yield _message(each, await run_in_threadpool(rendering.page, visit, f"{each}.html", values))
        await _rest(visit.pulse.rest, closing)


def _begin_tail(visit: Visit, closing: asyncio.Event) -> AsyncIterator[str]:
    """Begin behind what a browser has seen. Raises what is wrong with what is asked for."""
    wanted, wrong = events.selection(visit)
    if wrong:
        raise msgspec.ValidationError(wrong)
    seen = visit.request.headers.get("last-event-id", "")
    after = int(seen) if is_number(seen) else visit.number("after")
    return _tail(visit, wanted, after, closing)


async def _tail(visit: Visit, wanted: Selection, after: int | None, closing: asyncio.Event) -> AsyncIterator[str]:
    """Yield new events that match, as rows with the latest on top, until the database does not answer."""
    pause, quiet = _TAIL, 0.0
    while not closing.is_set():
        try:
            horizon = await run_in_threadpool(visit.app.operations.horizon)
            after = horizon if after is None else after
            rows = []
            if horizon > after:
                news = replace(wanted, after=after, until=horizon)
                found = await run_in_threadpool(visit.app.operations.search, news, limit=_ROWS, seconds=2.0)
                rows, after = found.events, horizon
        except Exception as error:  # noqa: BLE001 the database may come back
            status_of(error)
            return  # the browser says so, and comes again
        if rows:
            pause, quiet = _TAIL, 0.0
            page = await run_in_threadpool(rendering.page, visit, "event_rows.html", {"rows": rows})
            yield f"id: {after}\n{_message('rows', page)}"
        else:
            pause, quiet = min(_TAIL * 4, pause * 1.25), quiet + pause
            if quiet > _QUIET:
                quiet = 0.0
                yield ":\n\n"
        await _rest(pause, closing)
