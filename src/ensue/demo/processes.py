"""The processes of the demo, started, killed and started again."""

from __future__ import annotations

import os
import subprocess
import sys
from types import TracebackType
from typing import Self

import msgspec

from ensue.demo.setting import VARIABLE, Setting


class Process:
    """A module of the demo in a process of its own; `with` kills it at the end."""

    def __init__(self, module: str, *arguments: str, setting: Setting | None = None, port: bool = True) -> None:
        self._command = [sys.executable, "-m", f"ensue.demo.{module}", *arguments]
        self._environment = dict(os.environ)
        if setting is not None:
            self._environment[VARIABLE] = msgspec.json.encode(setting).decode()
        self._has_port = port
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 our own module
            self._command, env=self._environment, stdout=subprocess.PIPE, text=True
        )
        if self._has_port:
            stdout = self._process.stdout
            line = stdout.readline() if stdout else ""
            if not line:
                raise RuntimeError(f"{' '.join(self._command)} did not start; its error stands above")
            self.url = f"http://127.0.0.1:{line.strip()}/"

    def kill(self) -> None:
        """Kill it with SIGKILL, if it lives."""
        self._process.kill()
        self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()

    def restart(self) -> None:
        """Kill it if it lives, and start it again."""
        self.kill()
        self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
