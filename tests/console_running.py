"""A console at work: the bookshop with its worker, served on a port of its own, and what looks at it."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import uvicorn
from playwright.sync_api import Browser, sync_playwright

from ensue.console import Console
from tests.bookshop import Bookshop
from tests.node import installed
from tests.servers import NoServer, free_port

_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def eventually(look: Callable[[], Any], seconds: float = 15.0) -> Any:
    """Return what is looked for, as soon as it is there."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > deadline:
            raise AssertionError("it has not come in time")
        time.sleep(0.02)
    return found


@contextmanager
def working(shop: Bookshop) -> Generator[None]:
    """Run the shop's worker in a thread."""
    ready, stop, loop = threading.Event(), asyncio.Event(), asyncio.new_event_loop()

    async def work() -> None:
        async with shop.app.running(lease=2.0):
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(work()))
    thread.start()
    try:
        assert ready.wait(20)
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        loop.close()


@contextmanager
def serving(console: Any) -> Generator[str]:
    """Serve an ASGI application in a thread; yield its address."""
    port = free_port()
    config = uvicorn.Config(
        console, port=port, log_level="error", lifespan="off", proxy_headers=False, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        eventually(lambda: server.started)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)


@contextmanager
def open_shop(url: str, schema: str = "ensue", **options: Any) -> Generator[tuple[Bookshop, str]]:
    """Open a bookshop with shelves and a worker, and serve its console; yield it and the console's address."""
    shop = Bookshop(url, schema=schema)
    shop.app.migrate()
    shop.fill()
    with working(shop), serving(Console(shop.app, **options)) as address:
        yield shop, address


# --- the browser


def chromium() -> str:
    """Return where chromium is; on Debian it is installed if it is not there."""
    for _ in range(2):
        found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        if found is not None:
            return found
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            break
        for command in (["apt-get", "update"], ["apt-get", "install", "-y", "--no-install-recommends", "chromium"]):
            subprocess.run(command, capture_output=True, timeout=300, check=False)
    raise NoServer("there is no chromium, and it cannot be installed: apt-get install chromium")


@contextmanager
def browsing() -> Generator[Browser]:
    """Start a browser without a window."""
    path = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def axe() -> str:
    """Return the source of axe-core, which looks for what keeps people out."""
    return (installed("axe-core@4.14.1") / "axe.min.js").read_text("utf-8")
