"""Where Django's settings name the application, and where they say that the database is."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from ensue.app import App

NAMED = "ENSUE_APP"


def the_app() -> App:
    """Return the application that the setting `ENSUE_APP` names, as module:name.

    Raises `ImproperlyConfigured` if there is none, or its module cannot be imported.
    """
    named: object = getattr(settings, NAMED, None)
    module, _, name = named.partition(":") if isinstance(named, str) else ("", "", "")
    if not module or not name:
        raise ImproperlyConfigured(f'{NAMED} = {named!r}: name the application as module:name, "shop.events:app"')
    try:
        found: object = getattr(import_module(module), name, None)
    except ImportError as error:
        raise ImproperlyConfigured(f"{NAMED} = {named!r} cannot be imported: {error}") from error
    if not isinstance(found, App):
        raise ImproperlyConfigured(f"{NAMED} = {named!r}: there is no App {name} in {module}")
    return found


def url_of(alias: str = "default") -> str:
    """Return the URL of one of Django's databases, to be the log's.

    Under Django's test runner it is that of the test database, if it is called after that has been made. Raises
    `ImproperlyConfigured` for a database that cannot hold a log.
    """
    about: dict[str, Any] = connections[alias].settings_dict
    name = str(about["NAME"])
    match str(about["ENGINE"]).rpartition(".")[2]:
        case "sqlite3":
            if name == ":memory:" or name.startswith("file:"):
                raise ImproperlyConfigured(
                    f"DATABASES[{alias!r}] is in memory, where a log has no second connection: name a file; for tests "
                    f'"TEST": {{"NAME": "test.sqlite3"}}'
                )
            return f"sqlite:///{Path(name).absolute()}"
        case "postgresql" | "postgis":
            user = quote(str(about["USER"]), safe="")
            password = f":{quote(str(about['PASSWORD']), safe='')}" if about["PASSWORD"] else ""
            host, port = str(about["HOST"]), f":{about['PORT']}" if about["PORT"] else ""
            options: dict[str, str] = {}
            if host.startswith("/"):
                options["host"], host = host, ""
            login = f"{user}{password}@" if user else ""
            more = f"?{urlencode(options)}" if options else ""
            return f"postgresql://{login}{host}{port}/{quote(name, safe='')}{more}"
        case engine:
            raise ImproperlyConfigured(f"DATABASES[{alias!r}]: a log lives in PostgreSQL or SQLite, not in {engine}")
