"""What msgspec does not know, as JSON: pydantic models, by their own rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def to_plain(value: Any) -> Any:
    """Encode what msgspec does not know: pydantic models, by their own rules."""
    dump: Callable[..., Any] | None = getattr(value, "model_dump", None)
    if dump is None:
        raise TypeError(f"cannot encode {type(value).__name__}")
    return dump(mode="json")


def from_plain(wanted: Any, value: Any) -> Any:
    """Decode what msgspec does not know: pydantic models."""
    return wanted.model_validate(value)
