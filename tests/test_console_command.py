"""`ensue console`, as a process."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.bookshop import Bookshop

ROOT = Path(__file__).parent.parent
SHOP = """
import ensue
from tests.bookshop import Bookshop
app = Bookshop("sqlite:///shop.db").app
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "books.py").write_text(SHOP)
    Bookshop(f"sqlite:///{tmp_path}/shop.db").app.migrate()
    return tmp_path


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "ensue.cli", *words]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


@contextmanager
def console(folder: Path, *options: str) -> Iterator[str]:
    """Start the console; yield its address, and see that it ends well."""
    started = subprocess.Popen(
        command("console", "books:app", "--port", "0", *options),
        cwd=folder,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert started.stderr is not None
        line = started.stderr.readline()
        found = re.fullmatch(r"bookshop: the console is at (http://[\d.]+:\d+)/\n", line)
        assert found, line + started.stderr.read()
        yield found[1]
        started.send_signal(signal.SIGTERM)
        assert started.wait(20) in (0, -signal.SIGTERM)
        assert started.stderr.read() == ""
    finally:
        started.kill()
        started.communicate()


def test_it_is_open_to_this_machine(folder: Path) -> None:
    with console(folder) as address:
        assert "bookshop" in httpx.get(f"{address}/").text
        assert httpx.get(f"{address}/api/overview").json()["dead_letters"] == 0


def test_with_tokens_people_sign_in(folder: Path) -> None:
    (folder / "tokens").write_text("anna administer 3f9c1e7ab2604d58\n")
    with console(folder, "--tokens", "tokens") as address:
        assert httpx.get(f"{address}/api/overview").status_code == 401
        headers = {"Authorization": "Bearer 3f9c1e7ab2604d58"}
        assert httpx.get(f"{address}/api/overview", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--host", "0.0.0.0"], "error: --host 0.0.0.0 opens the console to other machines: say who may come in"),
        (["--tokens", "none"], "error: the tokens in none cannot be read: No such file or directory"),
        (["--host", "192.0.2.1", "--tokens", "tokens"], "error: the console cannot listen on 192.0.2.1:8470: "),
    ],
)
def test_what_it_refuses(folder: Path, options: list[str], told: str) -> None:
    (folder / "tokens").write_text("anna administer 3f9c1e7ab2604d58\n")
    asked = command("console", "books:app", *options)
    done = subprocess.run(asked, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(told)


def test_it_ends_without_a_word_while_somebody_listens(folder: Path) -> None:
    with httpx.Client() as client, ExitStack() as listening:
        with console(folder) as address:
            for path in ("/live/overview", "/live/events"):
                answer = listening.enter_context(client.stream("GET", address + path))
                assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            assert not line.startswith("event: error")
