"""Django, configured for as many databases as the tests ask for."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from typing import Any
from urllib.parse import unquote, urlsplit

import django
from django.conf import settings
from django.db import connections, transaction
from django.db.utils import ConnectionHandler
from django.utils.connection import ConnectionProxy

if not settings.configured:
    settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.dummy"}}, USE_TZ=True)
    django.setup()


def _database(url: str) -> dict[str, Any]:
    scheme, _, rest = url.partition("://")
    if scheme == "postgresql":
        parts = urlsplit(url)
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": unquote(parts.path.removeprefix("/")),
            "HOST": parts.hostname or "",
            "PORT": parts.port or "",
            "USER": unquote(parts.username or ""),
            "PASSWORD": unquote(parts.password or ""),
        }
    name = f"file:/{rest}?vfs=memdb" if scheme == "memory" else rest.removeprefix("/")
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": name, "OPTIONS": {"uri": True}}


@contextmanager
def connection_to(url: str) -> Generator[tuple[ConnectionProxy[Any], Callable[..., Any]]]:
    """Lend a connection as `django.db.connection` is one, and what makes its atomic blocks."""
    alias = f"suite_{secrets.token_hex(4)}"
    made = ConnectionHandler({"default": {"ENGINE": "django.db.backends.dummy"}, alias: _database(url)})[alias]
    connections[alias] = made
    try:
        yield ConnectionProxy(connections, alias), partial(transaction.atomic, using=alias)
    finally:
        made.in_atomic_block = False
        made.close()
        del connections[alias]
