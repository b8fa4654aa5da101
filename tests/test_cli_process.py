"""`ensue process`: what is listed, shown, cancelled and drawn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

APP = """
from ensue import App, Command, DomainEvent, Process, moves, starts

app = App("cli", "{url}", schema="{schema}")

class Begun(DomainEvent, key="id"):
    id: str

class Ended(DomainEvent, key="id"):
    id: str

class Undo(Command, key="id"):
    id: str

@app.handle(Undo)
def carry_out(command: Undo) -> None: ...

@app.process(key="id")
class Work(Process, name="work", version=2):
    @starts
    def begin(self, event: Begun) -> None:
        self.undo(Undo(id=event.id))
        self.after("3d", Ended(id=event.id), name="deadline")

    @moves
    def _(self, event: Ended) -> None:
        self.end()
"""
RECORD = """
import asyncio
from work import app, Begun, Ended
app.migrate()
with app.transaction() as connection:
    app.record(Begun(id="one"), Begun(id="two"), Ended(id="two"), Begun(id="three"), via=connection)
async def main():
    async with app.running():
        while any(each.behind for each in await asyncio.to_thread(app.operations.standings)):
            await asyncio.sleep(0.01)
asyncio.run(main())
"""

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(params=["sqlite", "postgresql"])
def ensue(request: pytest.FixtureRequest, tmp_path: Path, schema: str) -> Run:
    url = f"sqlite:///{tmp_path}/log.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    (tmp_path / "work.py").write_text(APP.format(url=url, schema=schema))

    def run(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        program = ["-c", RECORD] if not words else ["-m", "ensue.cli", *words, "--app", "work:app"]
        done = subprocess.run(
            [sys.executable, *program],
            cwd=tmp_path,
            env={**os.environ, "NO_COLOR": "1", "LOGNAME": "dora", "ENSUE_ACTOR": "dora"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    run()
    return run


def test_processes_are_listed_shown_and_cancelled(ensue: Run) -> None:
    listed = json.loads(ensue("process", "list", "--json").stdout)
    assert {each["key"]: each["status"] for each in listed} == {"one": "running", "two": "done", "three": "running"}
    words = ensue("process", "list", "work", "--status", "running", "--key", "one").stdout.split()
    assert words[6:12] == ["outcome", "work", "one", "v2", "running", "1"]
    assert ensue("process", "list", "other").stdout == "Nothing matches.\n"

    shown = ensue("process", "show", "work", "one").stdout
    for part in ("to be undone Undo", "deadline", "set deadline", "ensue process cancel work one --compensate"):
        assert part in shown, shown
    told = json.loads(ensue("process", "show", "work", "one", "--json").stdout)
    assert told["history"][0]["did"] == {"timers": ["deadline"], "undo": ["Undo"]}
    assert told["timers"][0]["name"] == "deadline"

    assert "say --yes" in ensue("process", "cancel", "work", "one", code=1).stderr
    said = ensue("process", "cancel", "work", "one", "--compensate", "--yes", "--reason", "a test").stdout
    assert said == "work of one is cancelled; undone by Undo\n"
    shown = ensue("process", "show", "work", "one").stdout
    for part in ("compensating", "a test", "to be undone Undo (is with its handler)", "ensue dead list", "give up"):
        assert part in shown, shown
    assert ensue("process", "list", "--status", "compensating").stdout.split()[8:10] == ["one", "v2"]
    assert json.loads(ensue("process", "cancel", "work", "three", "--yes", "--json").stdout)["recorded"] == []
    assert "there is no process 'work' of the key 'four'" in ensue("process", "show", "work", "four", code=1).stderr
    audit = json.loads(ensue("audit", "--json").stdout)
    assert [(each["action"], each["actor"], each["key"]) for each in audit] == [
        ("cancel process", "dora", "three"),
        ("cancel process", "dora", "one"),
    ]


def test_a_process_is_drawn(ensue: Run, tmp_path: Path) -> None:
    assert "timer: after 3d" in ensue("process", "diagram", "work").stdout
    ensue("process", "diagram", "work", "--version", "2", "--format", "svg", "--output", "work.svg")
    assert "</svg>" in (tmp_path / "work.svg").read_text()
    assert "has no version 1" in ensue("process", "diagram", "work", "--version", "1", code=1).stderr
