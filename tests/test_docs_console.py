"""What the console examples of the documentation print is what the commands print.

The ```console blocks of a page are one session in an empty folder that holds the page's files (```python blocks with a
title). Times, ids, names of workers and the folder may differ. What cannot run says so above its block:
<!-- not run: why -->. What happens between the examples stands in a comment: <!-- meanwhile: command; command -->,
where `worker` runs a worker until nothing is left to do, of another application if it is named, `start` runs a program
until the page ends or `kill` names it, and `broker starts` and `broker dies` are about a NATS server of the page's own.
What is printed by what follows <!-- eventually --> may take a moment to come true.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.broker_servers import OwnNats
from tests.patience import PATIENCE, until_sync

ROOT = Path(__file__).parent.parent
PAGES = [page for page in sorted((ROOT / "docs").rglob("*.md")) if "$ ensue" in page.read_text()]

FILE = re.compile(r'^```python title="(?P<name>[\w.]+)"\n(?P<text>.*?)^```', re.MULTILINE | re.DOTALL)
STEP = re.compile(
    r"(?P<skipped>^<!-- not run: [^\n]+ -->\n)?(?P<eventually>^<!-- eventually -->\n)?^```console\n(?P<console>.*?)^```"
    r"|^<!-- meanwhile: (?P<commands>[^\n]+) -->$",
    re.MULTILINE | re.DOTALL,
)
VARYING = {
    r"nats://(localhost|127\.0\.0\.1):\d+": "NATS",
    r"(Multiple exceptions: )?\[Errno \d+\].*": "ERROR",
    r"(\d+\.\d|\d+) (ms|s|min|h|d)( \d+ (s|min|h))?": "TIME",
    r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?Z": "MOMENT",
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}": "ID",
    r"[\w.-]+:\d+:[0-9a-f]{8}": "WORKER",
    r'"/.*/(\w+\.py)"': r"\1",
    r"^\s*[~^]+$\n": "",
    r" +": " ",
    r" $": "",
}


class Session:
    """A shell in a folder."""

    def __init__(self, folder: Path, page: str) -> None:
        self._folder = folder
        self._programs: dict[str, subprocess.Popen[bytes]] = {}
        self._broker: OwnNats | None = None
        if "examples/shop" in page:
            shutil.copytree(ROOT / "examples", folder / "examples")
        for file in FILE.finditer(page):
            (folder / file["name"]).write_text(file["text"])
        (folder / "pyproject.toml").write_text('[tool.ensue]\napp = "shop:app"\n')
        programs = folder / "bin"
        programs.mkdir()
        for name, arguments in (("ensue", "-m ensue.cli"), ("python", "")):
            (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {arguments} "$@"\n')
            (programs / name).chmod(0o755)
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ENSUE_")},
            "PATH": f"{programs}:{os.environ['PATH']}",
            "LOGNAME": "dora",
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def do(self, what: str) -> None:
        """Do what happens between the examples."""
        match what.split(" ", 1):
            case ["worker"]:
                self.work("")
            case ["worker", app]:
                self.work(app)
            case ["broker", "starts"]:
                self._broker = self._broker or OwnNats()
                self._broker.start_now()
                self._environment["SHOP_BROKER"] = f"nats://127.0.0.1:{self._broker.port}/shop"
            case ["broker", "dies"]:
                assert self._broker is not None
                self._broker.end(kill=True)
            case ["start", program]:
                self._programs[program] = subprocess.Popen(
                    shlex.split(program),
                    cwd=self._folder,
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            case ["kill", program]:
                self._programs[program].kill()
                self._programs.pop(program).wait()
            case _:
                self.run(what)

    def show(self, step: Step) -> None:
        """Do a step; raise `AssertionError` if it prints something else than the page says."""
        if step.output is None:
            self.do(step.command)
            return
        printed = self.run(step.command)
        deadline = time.monotonic() + 3 * PATIENCE
        while step.eventually and same(printed) != same(step.output) and time.monotonic() < deadline:
            printed = self.run(step.command)
        if step.output.strip():
            assert same(printed) == same(step.output), step.command

    def close(self) -> None:
        """End what the page has started."""
        for program in self._programs.values():
            program.kill()
            program.wait()
        if self._broker is not None:
            self._broker.close()

    def run(self, command: str, **settings: str) -> str:
        """Return what a command prints, errors and all."""
        return subprocess.run(
            command,
            shell=True,
            cwd=self._folder,
            env={**self._environment, **settings},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            check=False,
        ).stdout

    def work(self, app: str) -> None:
        """Run a worker until nothing is left to do."""
        about = {"ENSUE_APP": app} if app else {}
        worker = subprocess.Popen(
            ["ensue", "run"], cwd=self._folder, env={**self._environment, **about}, stderr=subprocess.DEVNULL
        )
        try:
            until_sync(
                lambda: (
                    not any(
                        row["behind"] or row["retrying"] for row in json.loads(self.run("ensue lag --json", **about))
                    )
                )
            )
        finally:
            worker.terminate()
            worker.wait(PATIENCE)


class Step(NamedTuple):
    """What happens, and what it prints: None for what happens between the examples."""

    command: str
    output: str | None
    eventually: bool = False


def steps(page: str) -> Iterator[Step]:
    """Yield the steps of a page."""
    for step in STEP.finditer(page):
        if step["commands"]:
            for command in step["commands"].split("; "):
                yield Step(command, None)
        elif not step["skipped"]:
            for example in re.split(r"^\$ ", step["console"], flags=re.MULTILINE)[1:]:
                command, _, output = example.partition("\n")
                yield Step(command, output, step["eventually"] is not None)


def same(text: str) -> str:
    """Return a text without what differs from run to run."""
    for pattern, instead in VARYING.items():
        text = re.sub(pattern, instead, text, flags=re.MULTILINE)
    return text.strip("\n")


@pytest.mark.timeout(400)  # each command is a process
@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES])
def test_the_examples_print_what_the_page_says(page: Path, tmp_path: Path) -> None:
    text = page.read_text()
    session = Session(tmp_path, text)
    try:
        for step in steps(text):
            session.show(step)
    finally:
        session.close()
