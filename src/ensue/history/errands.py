"""Errands: several operations, on one log or on several, with pauses between them; carried out in both styles."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from ensue.log import Log, Steps

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ask:
    """Carry an operation out on a connection of ensue's own."""

    log: Log
    steps: Steps[Any]


@dataclass(frozen=True, slots=True)
class Rest:
    """Let others have the database for a while."""

    seconds: float


Errand: TypeAlias = Generator[Ask | Rest, Any, T]
"""Yields what is to be done, receives what came of it, returns its result. It does no I/O of its own."""


def run(errand: Errand[T]) -> T:
    """Carry an errand out; what an operation raises ends it."""
    value: Any = None
    try:
        while True:
            step = errand.send(value)
            if isinstance(step, Ask):
                value = step.log.own.run(step.steps)
            else:
                time.sleep(step.seconds)
    except StopIteration as done:
        result: T = done.value
        return result


async def run_async(errand: Errand[T]) -> T:
    """As `run`, in an event loop."""
    value: Any = None
    try:
        while True:
            step = errand.send(value)
            if isinstance(step, Ask):
                value = await step.log.own.run_async(step.steps)
            else:
                await asyncio.sleep(step.seconds)
    except StopIteration as done:
        result: T = done.value
        return result
