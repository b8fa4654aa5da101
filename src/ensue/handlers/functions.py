"""The user's functions: how many arguments they take, and whether they are awaited."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ensue.errors import DeclarationError
from ensue.handlers.threads import in_thread
from ensue.log import is_awaited


class Function:
    """A handler of one or two arguments, sync or async; of three, where a third is told of.

    Raises `DeclarationError` for what is none.
    """

    def __init__(
        self, function: Callable[..., Any], label: str, second: str = "its delivery", third: str | None = None
    ) -> None:
        self.function = function
        self.label = label
        count = _arguments(function, label, second, third)
        self.takes_two = count == 2
        self.takes_three = count == 3
        self.is_async = is_awaited(function)

    async def __call__(self, first: object, second: object) -> Any:
        """Call it, in a thread if it is sync."""
        arguments = (first, second) if self.takes_two else (first,)
        return await self.function(*arguments) if self.is_async else await in_thread(self.function, *arguments)

    def directly(self, first: object, second: object) -> Any:
        """Call it here: the result, or an awaitable of it."""
        return self.function(first, second) if self.takes_two else self.function(first)


def name_of(function: Callable[..., Any]) -> str:
    """Return the name that a subscription gets from a function."""
    return str(getattr(function, "__name__", ""))


def _arguments(function: Callable[..., Any], label: str, second: str, third: str | None) -> int:
    positional = [
        each
        for each in inspect.signature(function).parameters.values()
        if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD) and each.default is each.empty
    ]
    count = len(positional)
    if not 1 <= count <= (2 if third is None else 3):
        more = "" if third is None else f", or with {third} besides"
        raise DeclarationError(
            f"{label!r}: the handler takes {count} arguments; "
            f"it is called with the event, or with the event and {second}{more}"
        )
    return count
