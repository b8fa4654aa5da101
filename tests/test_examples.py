"""The examples run, as a newcomer would run them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_sign_up(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", str(EXAMPLES / "signup" / "signup.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == [
        "mailer: ada@example.org",
        "newsletter: ada@example.org, at attempt 3",
    ]
    assert done.stderr.count("the newsletter is down") == 2


def test_wallet(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-m", "examples.wallet"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(EXAMPLES.parent), *sys.path])}
    for run in (1, 2):  # the second one goes on where the first one ended
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert sorted(lines[2:4]) == ["arrived", "returned: there is no wallet nobody"]
        assert lines[4:7] == [f"anna holds {60 * run}", f"bert holds {30 * run}", "the history of anna:"]
        assert [line.split()[0] for line in lines[7:]] == [str(version) for version in range(1, 6 * run + 2)]


def test_wallet_repair(tmp_path: Path) -> None:
    """A bug ruins balances while people pay; the log puts them right, and what is shown equals a fold of the log."""
    command = [sys.executable, "-W", "error", "-m", "examples.wallet.repair"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(EXAMPLES.parent), *sys.path])}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=110
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "release 1: 0 of 20 balances are wrong"
    assert re.fullmatch(r"release 2 takes the fee twice: [1-9]\d* balances are wrong", lines[1])
    assert re.fullmatch(r"release 3 reads \d+ wallets again", lines[2])
    assert re.fullmatch(r"[1-9]\d* balances differ, such as that of Wallet-w\d\d", lines[3])
    assert lines[4:] == ["switched: 0 of 20 balances are wrong"]


def test_sign_up_as_a_process(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-m", "examples.signup_process"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(EXAMPLES.parent), *sys.path])}
    for _ in range(2):  # the second one finds the ended processes of the first one
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == [
            "operator: the newsletter has refused bert, several times",
            "ada: active, in the newsletter; the sign-up is done: done",
            "bert: flagged; the sign-up is compensated: the newsletter did not take it",
        ]
