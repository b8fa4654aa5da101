"""The demo, with few sign-ups: the naive designs fail under its faults, ensue does not, and it can tell."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from ensue.cli.command import main
from ensue.demo.counting import count
from ensue.demo.running import verdict


def run(*arguments: str) -> list[dict[str, int]]:
    """Run the demo as a user does, and return its rows."""
    command = [sys.executable, "-W", "error", "-m", "ensue.cli", "demo", "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, int]] = json.loads(done.stdout)
    return rows


def check(rows: list[dict[str, int]]) -> None:
    flaws = [row["ghosts"] + row["missing"] + row["duplicates"] for row in rows]
    assert all(flaw > 0 for flaw in flaws[:2])
    assert flaws[-1] == 0
    assert rows[-1]["accounts"] == rows[-1]["subscribers"] == rows[-1]["mails"] > 0


@pytest.mark.timeout(120)
def test_on_sqlite() -> None:
    check(run("--sign-ups", "60", "--seed", "2"))


@pytest.mark.timeout(120)
def test_on_postgresql(postgres_url: str) -> None:
    check(run("--sign-ups", "40", "--seed", "2", "--database", postgres_url))


@pytest.mark.parametrize(
    "url, says",
    [
        ("mysql://root@localhost/shop", "error: --database mysql://root@localhost/shop: use the URL of a PostgreSQL"),
        ("sqlite:///nowhere/shop.db", "error: --database sqlite:///nowhere/shop.db: use the URL of a PostgreSQL"),
        ("shop", "error: --database shop: use the URL of a PostgreSQL"),
        ("postgresql://nobody@127.0.0.1:1/shop", "error: PostgreSQL cannot be reached: "),
    ],
)
def test_a_database_that_cannot_be_used_is_said_at_once(
    url: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["demo", "--database", url])
    assert left.value.code == 1
    assert capsys.readouterr().err.startswith(says)


@pytest.mark.parametrize(
    "subscribers, mails, flaws",
    [
        (["a", "b"], ["a", "b"], (0, 0, 0)),
        (["a", "b", "ghost"], ["a", "b"], (1, 0, 0)),
        (["a"], ["b"], (0, 2, 0)),
        (["a", "b", "b"], ["a", "a", "b"], (0, 0, 2)),
    ],
)
def test_every_flaw_is_counted_and_fails_the_run(
    subscribers: list[str], mails: list[str], flaws: tuple[int, int, int]
) -> None:
    outcome = count("ensue", ["a", "b"], subscribers, mails)
    assert (outcome.ghosts, outcome.missing, outcome.duplicates) == flaws
    assert verdict([outcome]) == (0 if flaws == (0, 0, 0) else 1)
