"""The processes of the shop: started, killed, and started again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


class Stopped(Exception):
    """A process has ended that should have gone on, or failed."""


class Process:
    """A program in a process of its own, whose output goes to a file."""

    def __init__(self, name: str, arguments: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self._command = [sys.executable, "-m", *arguments]
        self._environment = {**os.environ, **environment}
        self._environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._folder = folder
        self._log = folder / f"{name}.log"
        self._start()

    def _start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=self._folder, env=self._environment, stdout=log, stderr=log
            )

    def finish(self) -> None:
        """Wait until it has done its work. Raises `Stopped` if it fails."""
        if self._process.wait():
            raise Stopped(self._told())

    def check(self) -> None:
        """Raise `Stopped` if it has ended by itself."""
        if self._process.poll() is not None:
            raise Stopped(self._told())

    def kill(self) -> None:
        """Kill it with SIGKILL, and start it again."""
        self._process.kill()
        self._process.wait()
        self._start()

    def ask_to_stop(self) -> None:
        """Send SIGTERM."""
        self._process.terminate()

    def wait(self) -> None:
        """Wait until it has ended."""
        self._process.wait()

    def _told(self) -> str:
        last = self._log.read_text(errors="replace").splitlines()[-1:]
        return f"{self.name} has ended with {self._process.returncode}: {''.join(last)} (more in {self._log})"
