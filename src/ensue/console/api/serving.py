"""Serving the JSON API: who asks, what is given, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ensue.console.actions import ACTIONS, Action, carry_out
from ensue.console.api.answers import Wrong
from ensue.console.api.document import document
from ensue.console.api.queries import QUERIES, Query
from ensue.console.entrance import Entrance, body_of, refused
from ensue.console.guarding import check_origin
from ensue.console.troubles import status_of, told
from ensue.console.visits import Visit
from ensue.errors import ConsoleRefused


class Api:
    """The queries and actions of a console."""

    def __init__(self, console: Entrance) -> None:
        self._console = console

    def routes(self) -> list[Route]:
        """Return where they are found."""
        return [
            Route("/api/openapi.json", self._document),
            *(Route(f"/api{each.path}", self._query(each)) for each in QUERIES),
            *(Route(f"/api/actions/{each.name}", self._action(each), methods=["POST"]) for each in ACTIONS.values()),
            Route("/api/{path:path}", self._nothing, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
        ]

    async def _visit(self, request: Request) -> Visit | None:
        visitor = await self._console.visitor(request)
        return None if visitor is None else self._console.visit(request, visitor)

    def _query(self, query: Query) -> Callable[[Request], object]:
        async def endpoint(request: Request) -> Response:
            visit = await self._visit(request)
            if visit is None:
                return _unknown()

            def ask() -> Any:
                asked = msgspec.convert(dict(request.query_params), query.takes, strict=False)
                return query.ask(asked, visit)

            return await _answer(visit, ask)

        return endpoint

    def _action(self, action: Action) -> Callable[[Request], object]:
        async def endpoint(request: Request) -> Response:
            visit = await self._visit(request)
            if visit is None:
                return _unknown()
            if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
                return _json(Wrong(error="send JSON, with Content-Type: application/json"), 415)
            try:
                body = await body_of(request)
            except ConsoleRefused as error:
                return _json(Wrong(error=str(error)), 413)

            def act() -> Any:
                check_origin(request)
                visit.need(action.role)
                return carry_out(action, msgspec.json.decode(body, type=action.takes), visit)

            return await _answer(visit, act)

        return endpoint

    async def _document(self, request: Request) -> Response:
        visit = await self._visit(request)
        if visit is None:
            return _unknown()
        return _json(document(self._console.app.name, visit.root))

    async def _nothing(self, request: Request) -> Response:
        if await self._visit(request) is None:
            return _unknown()
        return _json(Wrong(error="there is nothing of this name; /api/openapi.json says what there is"), 404)


async def _answer(visit: Visit, ask: Callable[[], Any]) -> Response:
    try:
        return _json(await run_in_threadpool(ask))
    except Exception as error:  # noqa: BLE001 what nobody can mend is raised again
        status = status_of(error)
        if isinstance(error, ConsoleRefused):
            refused(visit.request, visit.visitor, error)
        return _json(Wrong(error=told(error, payloads=visit.visitor.payloads)), status)


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status_code=status, media_type="application/json")


def _unknown() -> Response:
    wrong = Wrong(error="who are you? Send a token: Authorization: Bearer …")
    response = _json(wrong, 401)
    response.headers["WWW-Authenticate"] = "Bearer"
    return response
