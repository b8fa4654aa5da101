"""Worker processes that tests start, stop and kill. What their handlers do is written to a file, line by line."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

from ensue import App, Delivery, DomainEvent

_processes = multiprocessing.get_context("forkserver")  # forks of a process that has imported all this already
_processes.set_forkserver_preload(["pytest", "psycopg", "tests.processes", "tests.storm", "tests.banking"])


class Worked(DomainEvent, key="key", name="test.processes.worked"):
    key: str
    n: int


class Line(NamedTuple):
    """What one handler did."""

    pid: int
    subscription: str
    key: str
    n: int
    attempt: int


@dataclass(frozen=True)
class Job:
    """What a worker process runs."""

    url: str
    schema: str
    effects: Path
    subscriptions: tuple[str, ...] = ("worked",)
    partitions: int = 1
    concurrency: int = 4
    seconds: float = 0.0
    """How long each handler takes."""
    lease: float = 1.0
    grace: float = 30.0

    def app(self) -> App:
        app = App("processes", self.url, schema=self.schema)
        for name in self.subscriptions:

            def work(event: Worked, delivery: Delivery) -> None:
                if self.seconds:
                    time.sleep(self.seconds)  # the work
                line = f"{os.getpid()} {delivery.subscription} {event.key} {event.n} {delivery.attempt}\n"
                with self.effects.open("ab", buffering=0) as file:
                    file.write(line.encode())

            app.on(Worked, name=name, start="beginning", partitions=self.partitions, concurrency=self.concurrency)(work)
        return app

    def lines(self) -> list[Line]:
        if not self.effects.exists():
            return []
        whole = self.effects.read_text().rpartition("\n")[0]  # the last line may just be being written
        found = [line.split() for line in whole.splitlines()]
        return [Line(int(pid), name, key, int(n), int(attempt)) for pid, name, key, n, attempt in found]

    def work(self) -> None:
        """Run the worker in this process."""
        self.app().run(lease=self.lease, grace=self.grace)


@dataclass
class Crew:
    """The processes of a test; none of them outlives it."""

    processes: list[BaseProcess] = field(default_factory=list)

    def start(self, target: object, *arguments: object) -> BaseProcess:
        process = _processes.Process(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        process.start()
        self.processes.append(process)
        return process

    def stop(self, process: BaseProcess, seconds: float = 30) -> int:
        """Send SIGTERM, wait until it has ended, return its exit code."""
        process.terminate()
        process.join(seconds)
        assert process.exitcode is not None, "it does not stop"
        return process.exitcode

    def kill(self, process: BaseProcess) -> None:
        """Send SIGKILL and wait until it is gone."""
        process.kill()
        process.join(30)
        assert process.exitcode == -signal.SIGKILL


@contextmanager
def crew() -> Iterator[Crew]:
    hired = Crew()
    try:
        yield hired
    finally:
        for process in hired.processes:
            if process.is_alive():
                process.kill()
            process.join(30)
            process.close()
