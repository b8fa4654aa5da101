"""Signing in with a token, and out."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from ensue.console import rendering
from ensue.console.access import COOKIE, Tokens
from ensue.console.entrance import Entrance, fields_of, inside, refused, root_of
from ensue.console.guarding import CSRF_COOKIE, check_form, check_origin, csrf_of, is_secure
from ensue.errors import ConsoleRefused


def routes(console: Entrance) -> list[Route]:
    """Return what it takes to sign in, if tokens are asked for."""
    tokens = console.access
    if not isinstance(tokens, Tokens):
        return []

    def form(request: Request, told: str = "", status: int = 200) -> Response:
        csrf, new = csrf_of(request)
        root = root_of(request)
        template = rendering.environment().get_template("sign_in.html")
        after = request.query_params.get("next", "/")
        response = HTMLResponse(
            template.render(root=root, csrf=csrf, told=told, next=after, app=console.app), status_code=status
        )
        if new:
            response.set_cookie(
                CSRF_COOKIE, csrf, path=root or "/", httponly=True, samesite="strict", secure=is_secure(request)
            )
        return response

    async def sign_in(request: Request) -> Response:
        if request.method == "GET":
            return form(request)
        try:
            check_origin(request)
            given = dict(await fields_of(request))
            check_form(request, given)
        except ConsoleRefused as error:
            refused(request, None, error)
            return form(request, str(error), 403)
        secret = given.get("token", "").strip()
        if tokens.holder(secret) is None:
            refused(request, None, "nobody has this token")
            return form(request, "Nobody has this token.", 401)
        root = root_of(request)
        response = RedirectResponse(root + inside(given.get("next", "/")), status_code=303)
        response.set_cookie(
            COOKIE,
            tokens.session(secret),
            path=root or "/",
            httponly=True,
            samesite="strict",
            secure=is_secure(request),
        )
        return response

    async def sign_out(request: Request) -> Response:
        try:
            check_origin(request)
        except ConsoleRefused as error:
            return form(request, str(error), 403)
        root = root_of(request)
        response = RedirectResponse(f"{root}/sign-in", status_code=303)
        response.delete_cookie(COOKIE, path=root or "/")
        return response

    return [
        Route("/sign-in", sign_in, methods=["GET", "POST"]),
        Route("/sign-out", sign_out, methods=["POST"]),
    ]
