"""Long actions: carried out in a thread, one of a kind at a time, with progress that everybody sees."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from ensue.errors import ConsoleRefused, UnknownName

logger = logging.getLogger("ensue.console")

Progress = Callable[[int, int], None]
Work = Callable[[Progress], str]
"""Is given what to call with how much is done and of how much; returns what it has come to, in words."""
_KEPT = 50


@dataclass(slots=True)
class Job:
    """A long action, and how far it is."""

    number: int
    what: str
    actor: str
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    ended: datetime | None = None
    state: Literal["working", "done", "failed"] = "working"
    done: int = 0
    total: int = 0
    told: str = ""
    """What it has come to, or why it failed."""

    def told_to(self, *, payloads: bool) -> str:
        """Return what somebody may be told: without `payloads` of a failure only the class of the error."""
        return self.told if payloads or self.state != "failed" else self.told.partition(":")[0]


class Jobs:
    """The long actions of this console. They end with its process: what is broken off can be begun again."""

    def __init__(self) -> None:
        self._jobs: dict[int, Job] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def begin(self, what: str, actor: str, work: Work) -> Job:
        """Begin one; raise `ConsoleRefused` if the same is at work already."""
        with self._lock:
            if any(each.what == what and each.state == "working" for each in self._jobs.values()):
                raise ConsoleRefused(f"{what}: this is at work already; its progress is shown")
            job = Job(next(self._numbers), what, actor)
            self._jobs[job.number] = job
            for number in sorted(self._jobs)[:-_KEPT]:
                if self._jobs[number].state != "working":
                    del self._jobs[number]
        threading.Thread(target=self._carry_out, args=(job, work), name=f"ensue console: {what}", daemon=True).start()
        return job

    def _carry_out(self, job: Job, work: Work) -> None:
        def progress(done: int, total: int) -> None:
            job.done, job.total = done, total

        try:
            job.told = work(progress)
            job.state = "done"
        except Exception as error:
            logger.warning("%s has failed", job.what, exc_info=True)
            job.told = f"{type(error).__name__}: {error}"
            job.state = "failed"
        finally:
            job.ended = datetime.now(UTC)

    def all(self) -> list[Job]:
        """Return them, the latest first."""
        return sorted(self._jobs.values(), key=lambda each: -each.number)

    def get(self, number: int) -> Job:
        """Return one by its number; raise `UnknownName` if there is none."""
        try:
            return self._jobs[number]
        except KeyError:
            raise UnknownName(f"there is no job {number}: they are forgotten when the console ends") from None
