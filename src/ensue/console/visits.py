"""A request as views see it: who asks, for what, and how to answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from starlette.requests import Request

from ensue.app import App
from ensue.console.access import Role, Visitor
from ensue.errors import ConsoleRefused, UnknownName

if TYPE_CHECKING:
    from ensue.console.jobs import Jobs
    from ensue.console.pulse import Pulse


@dataclass(frozen=True, slots=True)
class Page:
    """A page, or, asked for by htmx, a part of it."""

    template: str
    values: Mapping[str, Any]
    status: int = 200


@dataclass(frozen=True, slots=True)
class Redirect:
    """Go on there, with something to say."""

    path: str
    told: str = ""
    wrong: bool = False


@dataclass(frozen=True, slots=True)
class Document:
    """Something that is no page."""

    text: str
    media_type: str


Answer = Page | Redirect | Document


@dataclass(frozen=True, slots=True)
class Visit:
    """A request, and what it is about."""

    request: Request
    visitor: Visitor
    app: App
    pulse: Pulse
    jobs: Jobs
    csrf: str = ""
    form: Mapping[str, str] = field(default_factory=dict[str, str])
    also: tuple[App, ...] = ()
    signs_out: bool = False
    """The visitor came in by a token, and can go."""

    @property
    def root(self) -> str:
        """The path below which the console is mounted, without a slash at its end."""
        return str(self.request.scope.get("root_path", "")).rstrip("/")

    @property
    def path(self) -> str:
        """The path below the root."""
        return self.request.url.path.removeprefix(self.root) or "/"

    @property
    def partial(self) -> bool:
        """Whether htmx asks, for a part of the page."""
        headers = self.request.headers
        return headers.get("hx-request") == "true" and headers.get("hx-history-restore-request") != "true"

    def part(self, name: str) -> str:
        """Return a part of the path."""
        return str(self.request.path_params[name]).replace("\0", "\ufffd")

    def numbered(self, name: str) -> int:
        """Return a part of the path as a number that fits a position; raise `UnknownName` if it is none."""
        text = self.part(name)
        if not is_number(text):
            raise UnknownName(f"{text[:40]!r} is no number that there could be")
        return int(text)

    def asked(self, name: str) -> str:
        """Return a parameter of the query, without spaces around it; empty if there is none."""
        return self.request.query_params.get(name, "").replace("\0", "\ufffd").strip()

    def number(self, name: str) -> int | None:
        """Return a parameter as a number that fits a position; None if it is none."""
        text = self.asked(name)
        return int(text) if is_number(text) else None

    def query(self, **changed: object) -> str:
        """Return the query with parameters changed, or left out if they are None or empty."""
        asked = {**dict(self.request.query_params), **changed}
        kept = {name: value for name, value in asked.items() if value not in (None, "")}
        return f"?{urlencode(kept)}" if kept else ""

    def need(self, role: Role) -> None:
        """Raise `ConsoleRefused` unless the visitor has a role."""
        if not self.visitor.may(role):
            raise ConsoleRefused(f"{self.visitor.name} has the role {self.visitor.role!r}; this needs {role!r}")

    def need_payloads(self) -> None:
        """Raise `ConsoleRefused` unless the visitor may see payloads."""
        if not self.visitor.payloads:
            raise ConsoleRefused(f"{self.visitor.name} may not see what events hold, nor search in it or change it")


def is_number(text: str) -> bool:
    """Tell whether a text is a number that fits a position."""
    return text.isascii() and text.isdecimal() and len(text) < 19
