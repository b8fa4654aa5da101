"""A small application for the tests of the command line, in a folder of its own."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ensue import App
from ensue.cli import main
from ensue.subscriptions.operating import Filter
from tests.patience import until

MODULE = """
from ensue import App, Backoff, Delivery, DomainEvent, IntegrationEvent, errors

app = App("shop", {url!r}, schema={schema!r})


class Placed(IntegrationEvent, version=1, key="order"):
    order: str
    n: int


class Noted(DomainEvent, name="shop.noted"):
    text: str


@app.on(Placed, start="beginning")
async def mail(event):
    if event.order.startswith("bad") and event.n >= 0:
        raise errors.Permanent("no such [bold]address[/bold] \\x1b[31m")
    if event.order.startswith("flaky"):
        raise ConnectionError("the mail server\\nhas gone")


@app.on(Placed, Noted, start="beginning", partitions=2)
def stock(event, delivery):
    pass
"""


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Shop:
    """The application, and the command line run on it."""

    def __init__(self, folder: Path, url: str, schema: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.url, self.schema, self._capsys = folder, url, schema, capsys
        self._processes: list[subprocess.Popen[str]] = []
        self.write(MODULE.format(url=url, schema=schema))

    def write(self, module: str) -> None:
        """Make the application's module; it is imported anew."""
        (self.folder / "shop.py").write_text(module)
        importlib.invalidate_caches()
        sys.modules.pop("shop", None)

    def change(self, old: str, new: str) -> None:
        """Change the application's code."""
        assert old in self.text
        self.write(self.text.replace(old, new))

    @property
    def text(self) -> str:
        """The application's module."""
        return (self.folder / "shop.py").read_text()

    @property
    def module(self) -> Any:
        return importlib.import_module("shop")

    @property
    def app(self) -> App:
        app: App = self.module.app
        return app

    def __call__(self, *arguments: str, app: bool = True) -> Done:
        """Run a command in this process, with nobody at the keyboard."""
        self._capsys.readouterr()
        words = " ".join(arguments[:2])
        takes_target = words.startswith(("run", "migrate", "contracts lock", "contracts check"))
        named = () if not app else ("shop:app",) if takes_target else ("--app", "shop:app")
        try:
            main([*arguments, *named])
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else 0
        else:
            code = 0
        return Done(code, *self._capsys.readouterr())

    def good(self, *arguments: str, app: bool = True) -> Done:
        """Run a command that is expected to do well."""
        done = self(*arguments, app=app)
        assert done.code == 0, done
        return done

    def bad(self, *arguments: str) -> Done:
        """Run a command that is expected to end with 1."""
        done = self(*arguments)
        assert done.code == 1, done
        return done

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Run a command in a process of its own."""
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "ensue.cli", *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._processes.append(process)
        return process

    def close(self) -> None:
        """End the processes that a test has left behind."""
        for process in self._processes:
            if process.returncode is None:
                process.kill()
                process.communicate()

    def record(self, *orders: str) -> None:
        """Record an order placed for each, numbered from 0."""
        with self.app.transaction() as connection:
            self.app.record(*[self.module.Placed(order=order, n=n) for n, order in enumerate(orders)], via=connection)

    def work(self, condition: Callable[[], object]) -> None:
        """Let a worker run until the condition holds."""

        async def work() -> None:
            async with self.app.running(lease=1.0):
                await until(condition)

        asyncio.run(work())

    def work_off(self, dead: int) -> None:
        """Let a worker run until everything is done, except so many dead letters."""

        def done() -> bool:
            standings = self.app.operations.standings()
            letters = self.app.operations.dead_letters(Filter(waiting_only=False))
            waiting = [letter for letter in letters if letter.next_step == "wait"]
            return all(each.behind == 0 for each in standings) and len(waiting) == dead

        self.work(done)

    def fail_some(self) -> None:
        """Make dead letters at 2 (two events behind it) and 6, and one at 3 that is tried again."""
        self.record("good", "bad-1", "flaky", "bad-1", "bad-1", "bad-2", "good")
        self.work_off(dead=2)

    def letters(self, *options: str) -> list[dict[str, Any]]:
        """Return the dead letters, as the command line lists them."""
        found: list[dict[str, Any]] = self.good("dead", "list", "--json", *options).json
        return found


def open_shop(
    folder: Path, url: str, schema: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Shop]:
    """Yield the shop, with its folder as the current one."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # a module is changed faster than its cache notices
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    for name in ("ENSUE_APP", "ENSUE_DEBUG", "ENSUE_ACTOR"):
        monkeypatch.delenv(name, raising=False)
    shop = Shop(folder, url, schema, capsys)
    try:
        yield shop
    finally:
        shop.close()
        sys.modules.pop("shop", None)
