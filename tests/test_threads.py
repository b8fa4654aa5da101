"""Threads for sync handlers."""

from __future__ import annotations

import asyncio

import pytest

from ensue.handlers.threads import in_thread


def leave(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    "error", [ValueError("x"), GeneratorExit(), SystemExit(3)], ids=lambda each: type(each).__name__
)
async def test_whatever_a_function_raises_goes_up_caller_by_caller(error: BaseException) -> None:
    """A future that raises GeneratorExit would have closed the callers: none of them could go on."""
    passed: list[BaseException] = []

    async def call() -> None:
        try:
            await in_thread(leave, error)
        except BaseException as caught:  # noqa: BLE001
            passed.append(caught)

    async def go_on() -> str:
        await call()
        return "went on"

    assert await asyncio.create_task(go_on()) == "went on"
    assert passed == [error]


async def test_stop_iteration_is_told_by_a_name_that_coroutines_bear() -> None:
    with pytest.raises(RuntimeError, match="StopIteration"):
        await in_thread(leave, StopIteration())
