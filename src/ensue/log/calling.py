"""The user's functions: whether they are awaited, which not all of them show before they are called."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any


def is_awaited(function: Callable[..., Any]) -> bool:
    """Tell whether a function, or an object that can be called, is async as far as it shows."""
    while isinstance(function, partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 an object whose call is a coroutine function
    )


def never_awaited(answer: object) -> bool:
    """Tell whether an answer wants to be awaited by somebody who cannot; a coroutine is closed, it will never run."""
    if answer is None:
        return False
    if inspect.iscoroutine(answer):
        answer.close()
    return inspect.isawaitable(answer)
