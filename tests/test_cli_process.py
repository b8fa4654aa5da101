"""`ensue process`: what is listed, shown, cancelled and drawn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shop import Shop, open_shop

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


@pytest.fixture(params=["sqlite", "postgresql"])
def shop(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    schema: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Shop]:
    url = f"sqlite:///{tmp_path}/log.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    for shop in open_shop(tmp_path, url, schema, monkeypatch, capsys):
        monkeypatch.setenv("ENSUE_ACTOR", "dora")
        shop.write(APP.format(url=url, schema=schema))
        shop.app.migrate()
        begun, ended = shop.module.Begun, shop.module.Ended
        with shop.app.transaction() as connection:
            shop.app.record(begun(id="one"), begun(id="two"), ended(id="two"), begun(id="three"), via=connection)
        shop.work(lambda: all(each.behind == 0 for each in shop.app.operations.standings()))
        yield shop


def test_processes_are_listed_shown_and_cancelled(shop: Shop) -> None:
    listed = shop.good("process", "list", "--json").json
    assert {each["key"]: each["status"] for each in listed} == {"one": "running", "two": "done", "three": "running"}
    words = shop.good("process", "list", "work", "--status", "running", "--key", "one").out.split()
    assert words[6:12] == ["outcome", "work", "one", "v2", "running", "1"]
    assert shop.good("process", "list", "other").out == "Nothing matches.\n"

    shown = shop.good("process", "show", "work", "one").out
    for part in ("to be undone Undo", "deadline", "set deadline", "ensue process cancel work one --compensate"):
        assert part in shown, shown
    told = shop.good("process", "show", "work", "one", "--json").json
    assert told["history"][0]["did"] == {"timers": ["deadline"], "undo": ["Undo"]}
    assert told["timers"][0]["name"] == "deadline"

    assert "say --yes" in shop.bad("process", "cancel", "work", "one").err
    said = shop.good("process", "cancel", "work", "one", "--compensate", "--yes", "--reason", "a test").out
    assert said == "work of one is cancelled; undone by Undo\n"
    shown = shop.good("process", "show", "work", "one").out
    for part in ("compensating", "a test", "to be undone Undo (is with its handler)", "ensue dead list", "give up"):
        assert part in shown, shown
    assert shop.good("process", "list", "--status", "compensating").out.split()[8:10] == ["one", "v2"]
    assert shop.good("process", "cancel", "work", "three", "--yes", "--json").json["recorded"] == []
    assert "there is no process 'work' of the key 'four'" in shop.bad("process", "show", "work", "four").err
    audit = shop.good("audit", "--json").json
    assert [(each["action"], each["actor"], each["key"]) for each in audit] == [
        ("cancel process", "dora", "three"),
        ("cancel process", "dora", "one"),
    ]


def test_a_process_is_drawn(shop: Shop) -> None:
    assert "timer: after 3d" in shop.good("process", "diagram", "work").out
    shop.good("process", "diagram", "work", "--version", "2", "--format", "svg", "--output", "work.svg")
    assert "</svg>" in (shop.folder / "work.svg").read_text()
    assert "has no version 1" in shop.bad("process", "diagram", "work", "--version", "1").err
