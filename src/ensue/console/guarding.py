"""What keeps others out: forged requests are refused, and every answer says what a browser may do with it."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ensue.errors import ConsoleRefused

CSRF_COOKIE = "ensue_csrf"
CSRF_FIELD = "csrf"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class Guarded:
    """Puts the headers that protect on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, guarded)


def check_origin(request: Request) -> None:
    """Raise `ConsoleRefused` if a page of another site has sent a request that changes something.

    Browsers say where a request comes from, in `Sec-Fetch-Site` and `Origin`; programs say nothing.
    """
    site = request.headers.get("sec-fetch-site", "none")
    origin = request.headers.get("origin")
    if site not in ("none", "same-origin"):
        raise ConsoleRefused("this request comes from another site's page")
    if origin is not None and _place_of(origin) != request.headers.get("host", ""):
        raise ConsoleRefused(f"this request comes from a page of {origin}, not of this console")


def _place_of(origin: str) -> str | None:
    """Return the host and port of an origin; None for one that cannot be read, or has none."""
    try:
        return urlsplit(origin).netloc or None
    except ValueError:
        return None


def is_secure(request: Request) -> bool:
    """Tell whether the browser speaks TLS, to this process or to a proxy in front of it.

    Who says so without it being so gets cookies that are sent over TLS only, and nothing else.
    """
    return "https" in (request.url.scheme, request.headers.get("x-forwarded-proto", "").partition(",")[0].strip())


def csrf_of(request: Request) -> tuple[str, bool]:
    """Return what forms have to hold, and whether the browser still has to be told."""
    known = request.cookies.get(CSRF_COOKIE, "")
    return (known, False) if len(known) == 32 and known.isalnum() else (secrets.token_hex(16), True)


def check_form(request: Request, form: Mapping[str, str]) -> None:
    """Raise `ConsoleRefused` unless a form holds what this browser's cookie does."""
    known, given = request.cookies.get(CSRF_COOKIE, ""), form.get(CSRF_FIELD, "")
    if len(known) != 32 or not hmac.compare_digest(known.encode(), given.encode()):
        raise ConsoleRefused("this form is not one that the console has given to this browser; load the page again")
