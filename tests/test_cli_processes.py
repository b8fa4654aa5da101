"""The command line in processes of its own: workers, followers, and a person at a terminal."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

import pytest

from tests.patience import PATIENCE, until_sync
from tests.servers import OwnPostgres, Stop
from tests.shop import Shop, open_shop


@pytest.fixture(params=["sqlite", "postgresql"])
def shop(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    schema: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Shop]:
    sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/shop.db" if sqlite else request.getfixturevalue("postgres_url")
    for each in open_shop(tmp_path, url, schema, monkeypatch, capsys):
        each.good("migrate")
        yield each


one_database = pytest.mark.parametrize("shop", ["sqlite"], indirect=True)


def read_until(process: subprocess.Popen[str], text: str, stream: Literal["out", "err"] = "err") -> str:
    """Read lines up to the one that holds a text, and return them."""
    source = process.stderr if stream == "err" else process.stdout
    assert source is not None
    seen = ""
    watchdog = threading.Timer(PATIENCE, process.kill)
    watchdog.start()
    try:
        for line in source:
            seen += line
            if text in line:
                return seen
    finally:
        watchdog.cancel()
        watchdog.join()
    raise AssertionError(f"{text!r} did not come: {seen}")


def stop(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> tuple[int, str, str]:
    """Send a signal; return how the process ended, and what it still wrote."""
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


@pytest.fixture
def busy(shop: Shop) -> Shop:
    shop.fail_some()
    return shop


# --- run


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_ends_well(shop: Shop, number: int) -> None:
    """What is in hand is finished, checkpointed, and the leases are given back."""
    shop.change(
        "def stock(event, delivery):\n    pass",
        "def stock(event, delivery):\n"
        "    import pathlib, time\n"
        "    pathlib.Path('begun').touch()\n"
        "    while not pathlib.Path('finish').exists(): time.sleep(0.01)\n"
        "    pathlib.Path('finished').touch()",
    )
    shop.record("good")
    process = shop.start("run", "shop:app")
    until_sync((shop.folder / "begun").exists)
    process.send_signal(number)
    (shop.folder / "finish").touch()
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert err.splitlines()[-1].endswith("INFO    ensue: stopped")
    assert (shop.folder / "finished").exists()
    stock = shop.good("lag", "--json").json[1]
    assert (stock["workers"], stock["free"]) == (0, 2)
    assert {each["subscription"]: each["state"] for each in shop.good("show", "1", "--json").json["subscriptions"]}[
        "stock"
    ] == "passed"


def test_a_worker_says_what_it_runs_and_what_fails(shop: Shop) -> None:
    shop.change("def stock(event, delivery)", "def storage(event, delivery)")
    shop.change("@app.on(Placed, Noted, start", "@app.on(Noted, start")
    shop.good("retire", "stock", "--yes")
    with shop.app.transaction() as connection:
        shop.app.record(shop.module.Placed(order="bad", n=1), via=connection)
    process = shop.start("run", "shop:app")
    said = read_until(process, "it waits for a person")
    assert "INFO    ensue: subscription mail: Placed.v1, 10 at once\n" in said
    assert "INFO    ensue: subscription storage: shop.noted, 10 at once, 2 partitions\n" in said
    assert "ERROR   ensue: mail: event" in said
    assert "no such [bold]address[/bold] \\x1b[31m" in said
    assert process.poll() is None, "a handler that fails ends no worker"
    assert stop(process)[0] == 0


@one_database
def test_a_worker_reports_what_vanished(shop: Shop) -> None:
    shop.change('@app.on(Placed, Noted, start="beginning", partitions=2)\n', "")
    process = shop.start("run", "shop:app")
    assert "ensue retire stock" in read_until(process, "nobody declares it")
    assert stop(process)[0] == 0


@one_database
def test_a_worker_that_logs_json(shop: Shop) -> None:
    shop.record("flaky")
    process = shop.start("run", "shop:app", "--log-format", "json", "--log-level", "warning")
    entry = json.loads(read_until(process, "the mail server"))
    assert entry["level"] == "warning"
    assert entry["logger"] == "ensue"
    assert entry["time"].endswith("Z")
    code, _, err = stop(process)
    assert code == 0
    assert not any(json.loads(line)["level"] == "info" for line in err.splitlines())


@one_database
def test_an_application_keeps_its_own_logging(shop: Shop) -> None:
    shop.write("import logging\nlogging.basicConfig(format='mine: %(message)s', level='INFO')\n" + shop.text)
    process = shop.start("run", "shop:app")
    read_until(process, "mine: worker")
    assert stop(process)[0] == 0


@pytest.mark.parametrize(
    "words, says",
    [
        (("run", "nothing:app"), "there is no module 'nothing'"),
        (("run", "shop:mail"), "is no ensue.App"),
        (("run",), "which application?"),
    ],
)
@one_database
def test_a_worker_with_a_bad_target(shop: Shop, words: tuple[str, ...], says: str) -> None:
    process = shop.start(*words)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (1, "")
    assert says in err
    assert "Traceback" not in err


def test_a_worker_without_a_log(shop: Shop) -> None:
    shop.change(f"schema='{shop.schema}'", f"schema='{shop.schema}x'")
    process = shop.start("run", "shop:app")
    err = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 1
    assert "ensue migrate" in err.splitlines()[-1]


@one_database
def test_a_worker_with_nothing_to_do(shop: Shop) -> None:
    shop.write(f"from ensue import App\napp = App('shop', {shop.url!r}, schema={shop.schema!r})\n")
    process = shop.start("run", "shop:app")
    assert "declares no subscription" in process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 1


@one_database
def test_a_worker_whose_subscription_was_renamed(shop: Shop) -> None:
    shop.change("async def mail", "async def letter")
    process = shop.start("run", "shop:app")
    err = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 1
    assert "error: subscription 'letter' is new and 'mail' is declared no more" in err.splitlines()[-1]


@one_database
def test_a_worker_waits_for_its_database_and_hides_the_password(shop: Shop) -> None:
    shop.change(shop.url, "postgresql://anna:geheim@127.0.0.1:1/nothing")
    process = shop.start("run", "shop:app")
    said = read_until(process, "again in")
    assert "postgresql://anna:***@127.0.0.1:1/nothing" in said
    code, _, err = stop(process)
    assert "geheim" not in said + err
    assert code == 0, err


# --- following


def test_tail_follows_the_log_until_it_is_stopped(shop: Shop) -> None:
    shop.record("first")
    process = shop.start("tail", "--app", "shop:app", "--json")
    shop.record("second")
    read_until(process, "second", "out")
    shop.record("third", "fourth")
    assert json.loads(read_until(process, "third", "out"))["position"] == 3
    read_until(process, "fourth", "out")
    code, out, err = stop(process, signal.SIGINT)
    assert (code, out, err) == (0, "", "")


def test_tail_survives_an_outage(
    own_postgres: OwnPostgres,
    tmp_path: Path,
    schema: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for shop in open_shop(tmp_path, own_postgres.url, schema, monkeypatch, capsys):
        shop.good("migrate")
        process = shop.start("tail", "--app", "shop:app")
        shop.record("before")
        read_until(process, "before", "out")
        own_postgres.stop(Stop.IMMEDIATE)
        read_until(process, "again in")
        own_postgres.start()
        shop.record("after")
        assert "before" not in read_until(process, "after", "out")
        assert stop(process, signal.SIGINT)[0] == 0


@one_database
def test_lag_is_shown_again_and_again(shop: Shop) -> None:
    process = shop.start("lag", "--watch", "--every", "0.1", "--json", "--app", "shop:app")
    assert json.loads(read_until(process, "stock", "out"))[1]["behind"] == 0
    shop.record("good")
    read_until(process, '"behind":1', "out")
    assert stop(process, signal.SIGINT)[0] == 0
    code, seen = at_a_terminal(shop, "lag", "--watch", "--every", "0.1", interrupted_at="stock")
    assert code == 0, seen


# --- at a terminal


def at_a_terminal(
    shop: Shop, *words: str, typed: str = "", interrupted_at: str | None = None, **environment: str
) -> tuple[int, str]:
    """Run a command in a process at a terminal; return how it ended and what was seen."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "ensue.cli", *words, "--app", "shop:app"],
        cwd=shop.folder,
        env={**os.environ, "TERM": "xterm", **environment},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    os.write(ours, typed.encode())
    seen = b""
    with suppress(OSError):  # Linux says so when the other end has been closed
        while piece := os.read(ours, 4096):
            seen += piece
            if interrupted_at is not None and interrupted_at.encode() in seen:
                process.send_signal(signal.SIGINT)
                interrupted_at = None
    os.close(ours)
    return process.wait(PATIENCE), seen.decode()


@one_database
def test_asked_at_a_terminal(busy: Shop) -> None:
    code, seen = at_a_terminal(busy, "dead", "discard", "2", typed="n\n", NO_COLOR="1")
    assert code == 1
    assert "Discard 1 event, and 2 events behind it? [y/N]" in seen
    assert "Nothing was done." in seen
    assert "\x1b[3" not in seen, "no colours under NO_COLOR"
    assert at_a_terminal(busy, "dead", "retry", "--all", typed="y\n")[0] == 0
    assert not busy.letters()


@one_database
def test_edit_with_an_editor(busy: Shop) -> None:
    """The first try is no JSON, and can be corrected."""
    (busy.folder / "editor.sh").write_text(
        "if test -e once; then sed -i 's/\\?,/,/; s/5/-5/' $1; else touch once; sed -i 's/,/?,/' $1; fi"
    )
    code, seen = at_a_terminal(busy, "dead", "edit", "6", typed="y\ny\n", EDITOR="sh editor.sh")
    assert code == 0, seen
    assert "this is no JSON" in seen
    assert '+  "n": -5' in seen
    assert [each["edited"] for each in busy.letters("--all")] == [False, False, True]


@one_database
def test_an_editor_that_fails(busy: Shop) -> None:
    assert "ended with 1; nothing was done" in at_a_terminal(busy, "dead", "edit", "6", EDITOR="false")[1]
    assert "cannot be started" in at_a_terminal(busy, "dead", "edit", "6", VISUAL="/no/editor")[1]


@one_database
def test_a_bar_shows_only_after_a_second_and_only_at_a_terminal(busy: Shop) -> None:
    busy.write(
        busy.text + "import threading\n"
        "from ensue.app.operations import Operations\n"
        "slow, real = threading.Event(), Operations.dead_letters\n"
        "def wait(*given):\n    slow.wait(1.5)\n    return real(*given)\n"
        "Operations.dead_letters = wait\n"
    )
    assert "Looking" in at_a_terminal(busy, "dead", "list")[1]
    assert "Looking" not in at_a_terminal(busy, "lag")[1]
    process = busy.start("dead", "list", "--app", "shop:app")
    assert "Looking" not in "".join(process.communicate(timeout=20))
