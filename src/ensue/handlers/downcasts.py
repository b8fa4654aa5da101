"""Downcasts: from the newer version of an integration event to an older one, while somebody reads it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar, overload

from ensue.errors import DeclarationError, Permanent
from ensue.events import IntegrationEvent
from ensue.handlers.functions import Function
from ensue.subscriptions import Delivery

New = TypeVar("New", bound=IntegrationEvent)
Old = TypeVar("Old", bound=IntegrationEvent)


class Downcasting(Protocol[New, Old]):
    """Takes a function of the newer version that returns the older one or None, sync or async, and gives it back."""

    @overload
    def __call__(self, function: Callable[[New], Old | None], /) -> Callable[[New], Old | None]: ...

    @overload
    def __call__(
        self, function: Callable[[New], Awaitable[Old | None]], /
    ) -> Callable[[New], Awaitable[Old | None]]: ...

    @overload
    def __call__(self, function: Callable[[New, Delivery], Old | None], /) -> Callable[[New, Delivery], Old | None]: ...

    @overload
    def __call__(
        self, function: Callable[[New, Delivery], Awaitable[Old | None]], /
    ) -> Callable[[New, Delivery], Awaitable[Old | None]]: ...


def check_versions(new: type[IntegrationEvent], old: type[IntegrationEvent]) -> None:
    """Raise `DeclarationError` unless these are a newer and an older version of one event."""
    for each in (new, old):
        if not (isinstance(each, type) and issubclass(each, IntegrationEvent) and hasattr(each, "__type__")):
            raise DeclarationError(f"downcast: {each!r} is not an integration event, and has no versions")
    where = f"downcast({new.__qualname__}, {old.__qualname__})"
    names = [each.__type__.rpartition(".v")[0] for each in (new, old)]
    if names[0] != names[1]:
        raise DeclarationError(
            f"{where}: these are different events, {new.__type__} and {old.__type__}: a downcast makes an older "
            "version of the same event, which has the same name=…; from one event to another goes @app.translate"
        )
    if (new.__version__ or 0) <= (old.__version__ or 0):
        raise DeclarationError(
            f"{where}: {old.__type__} is not older than {new.__type__}; the newer one comes first. From an older "
            "version to a newer one its readers go, with @upcast"
        )


def downcasting(function: Callable[..., Any], label: str, old: type[IntegrationEvent]) -> Callable[..., Any]:
    """Make a translating function of a downcasting one: it makes the old version, or nothing."""
    called = Function(function, label)

    async def downcast(event: IntegrationEvent, delivery: Delivery) -> IntegrationEvent | None:
        made = await called(event, delivery)
        if made is not None and not isinstance(made, old):
            raise Permanent(f"{label} returned {made!r}: this downcast makes {old.__qualname__}, or None")
        return made

    return downcast
