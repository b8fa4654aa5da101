"""The pytest plugin: your application on a log of the test's own, with all that follows done when you say so.

pytest finds it by itself where `ensue[testing]` is installed. The application is named in the configuration of pytest,
`ensue_app = "shop.app:app"`, or by a fixture `ensue_target` of your own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # imported where a test needs it: the plugin is loaded in every run of pytest
    from ensue.app import App
    from ensue.testing.moving import Clock
    from ensue.testing.settling import Settle, Since


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the setting."""
    parser.addini("ensue_app", "The ensue application that the tests are about, as module:name.")


@pytest.fixture
def ensue_target(pytestconfig: pytest.Config) -> App:
    """Return the application that the tests are about; override it if the configuration cannot name it."""
    import importlib

    from ensue.app import App

    named = str(pytestconfig.getini("ensue_app"))
    module, _, name = named.partition(":")
    if not name:
        raise pytest.UsageError(
            f"ensue_app = {named!r}: name the application in pytest's configuration as module:name, for example "
            "shop.app:app, or override the fixture ensue_target"
        )
    found = getattr(importlib.import_module(module), name, None)
    if not isinstance(found, App):
        raise pytest.UsageError(f"ensue_app = {named!r}: there is no App of that name in {module}")
    return found


@pytest.fixture
def ensue_log(tmp_path: Path) -> str | None:
    """Return where the log is during the test: a new SQLite file.

    Override it to return the URL of your test database, or None to leave the log where the application says.
    """
    return f"sqlite:///{tmp_path / 'ensue.db'}"


@pytest.fixture
def ensue_app(ensue_target: App, ensue_log: str | None) -> Generator[App]:
    """Yield the application, with its log made where `ensue_log` says."""
    from ensue.testing.moving import log_at

    if ensue_log is None:
        ensue_target.migrate()
        yield ensue_target
        return
    with log_at(ensue_target, ensue_log) as app:
        yield app


@pytest.fixture
def settle(ensue_app: App) -> Settle:
    """Return what waits until everything that follows has followed: `settle()`."""
    from ensue.testing.settling import Settle

    return Settle(ensue_app)


@pytest.fixture
def settle_async(settle: Settle) -> Callable[[], Awaitable[None]]:
    """Return the same for async tests, to be awaited."""
    return settle.within_loop


@pytest.fixture
def ensue_clock(ensue_app: App) -> Clock:
    """Return a clock to move: `ensue_clock.move("3d")`."""
    from ensue.testing.moving import Clock

    return Clock(ensue_app)


@pytest.fixture
def ensue_recorded(ensue_app: App) -> Since:
    """Return what tells which events have been recorded since the test began: `ensue_recorded(OrderPlaced)`."""
    from ensue.testing.settling import Since

    return Since(ensue_app)
